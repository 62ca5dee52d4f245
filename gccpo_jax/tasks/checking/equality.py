"""Whether a free-form answer equals the gold answer, by symbolic mathematics in a child process."""

from __future__ import annotations

from gccpo_jax.tasks.checking.child import Child

MAX_CHARACTERS = 2000  # of a response's end; what a final answer needs, and no more


def open_math(gold: str, text: str, deadline_seconds: float = 5.0) -> float | None:
    """Whether a response's final answer equals `gold` as mathematics.

    Args:
        gold: LaTeX of the answer alone, for example `\\frac12`.
        text: the response; the last `MAX_CHARACTERS` characters are read, and in
            them math-verify looks for a boxed or otherwise final expression in LaTeX.
        deadline_seconds: time for this one comparison.

    Returns:
        1.0 if equal, 0.0 if not or if there is no answer that can be read, None if
        that is unknown: time or memory ran out, or the child crashed.
    """
    request = {"gold": gold[:MAX_CHARACTERS], "text": text[-MAX_CHARACTERS:]}
    reply = _CHILD.ask(request, deadline_seconds)
    if reply == "memory":
        _CHILD.stop()  # it may hold on to what it got
    return {"0": 0.0, "1": 1.0}.get(reply or "")


_CHILD = Child(
    "equality_program.py",
    "the verifier of open mathematics",
    "install it with: pip install 'gccpo-jax[math]'",
)
