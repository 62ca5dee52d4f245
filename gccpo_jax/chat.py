"""Talk to a model in the terminal; its answers appear as they are written.

    python -m gccpo_jax.chat --model smollm2
    echo "What is 2 + 3?" | python -m gccpo_jax.chat --model runs/a/policy --temperature 0

A line is a message. A model with a chat template keeps the conversation, and forgets its oldest
messages where they do not fit any more; one without reads each line by itself. An empty line is
passed over; /new begins a new conversation, /exit (or the end of the input) ends.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import jax

from gccpo_jax.analyse import template_of
from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.policy.chat_template import DATE, Message, Template
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.policy.tokenizer import Tokenizer
from gccpo_jax.runtime.cli import check_ranges, command_parser
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.sampling.streaming import stream
from gccpo_jax.tasks.base import Task

PLAIN = Task(
    name="chat",
    splits={},
    prompt=lambda item: item.question,
    extract=lambda text: text,
    verify=lambda item, text: None,
)
"""No task: what a model is opened with to talk to it."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("chat", __doc__)
    out.add_argument("--model", required=True, help="tiny, smollm2, a directory, an id, a .gguf")
    out.add_argument("--system", default="", help="a system message")
    out.add_argument("--temperature", type=float, default=0.7, help="0: the greedy answer")
    out.add_argument("--top-p", type=float, default=1.0, help="keep the likeliest mass of tokens")
    out.add_argument("--max-tokens", type=int, help="of an answer (512, at most half the context)")
    out.add_argument("--seed", type=int, default=0, help="of what is drawn")
    out.add_argument("--template", default="", metavar="JSON", help="as for analyse")
    out.add_argument("--date", default=DATE, help="as for analyse")
    return out


def run_command(argv: Sequence[str], lines: Iterable[str], out: TextIO) -> None:
    """Answers each line.

    Raises:
      UserError: arguments that cannot be, no such model, a message that does not fit.
    """
    a = parser().parse_args(argv)
    check_ranges(a, {"temperature": 0, "max_tokens": 1, "seed": 0})
    if not 0 < a.top_p <= 1:
        raise UserError(f"--top-p {a.top_p}: expected above 0 and at most 1")
    template = template_of(a)
    model = open_model(a.model, PLAIN)
    tokenizer = model.solver.tokenizer
    max_tokens = a.max_tokens or min(512, model.context // 2)
    template.check(tokenizer.backend, True, a.system or None)
    opening: list[Message] = [{"role": "system", "content": a.system}] if a.system else []
    said: list[Message] = []
    root = jax.random.key(a.seed)
    for number, line in enumerate(lines):
        text = line.strip()
        if text == "/exit":
            return
        if text in ("", "/new"):
            said = [] if text else said
            continue
        said.append({"role": "user", "content": text})
        prompt, said = fitting(model, template, opening, said, max_tokens)
        answer = ""
        tokens = stream(
            model.solver.policy,
            model.params,
            prompt,
            model.solver.stop,
            rule=Rule(a.temperature, top_p=a.top_p),
            key=jax.random.fold_in(root, number),
            max_tokens=max_tokens,
        )
        for piece in pieces(tokenizer, tokens):
            answer += piece
            print(piece, end="", file=out, flush=True)
        print(file=out, flush=True)
        said.append({"role": "assistant", "content": answer})


def fitting(
    model: Model, template: Template, opening: list[Message], said: list[Message], max_tokens: int
) -> tuple[list[int], list[Message]]:
    """The prompt of a conversation that leaves room for an answer, and the messages in it.

    Raises:
      UserError: the last message alone does not fit.
    """
    room = model.context - max_tokens
    while True:
        tokens = _prompt(model.solver.tokenizer, template, opening, said)
        if len(tokens) <= room:
            return tokens, said
        if len(said) < 3:
            raise UserError(
                f"the message has {len(tokens)} tokens; the model's context of {model.context} "
                f"leaves {room} beside --max-tokens {max_tokens}; shorten it, or lower that"
            )
        said = said[2:]  # a question and its answer


def _prompt(
    tokenizer: Tokenizer, template: Template, opening: list[Message], said: list[Message]
) -> list[int]:
    backend = tokenizer.backend
    if not backend.chat_template:
        system = opening[0]["content"] if opening else None
        return tokenizer.render(said[-1]["content"] + "\n", system, chat=False)
    text = template.render_all(backend, [*opening, *said])
    return backend.encode(text, add_special_tokens=False)


def pieces(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens as it grows; half of a character waits for its other half."""
    ids: list[int] = []
    shown = ""
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids, skip_special=True)
        if not text.endswith("\ufffd") and text.startswith(shown):
            yield text[len(shown) :]
            shown = text
    text = tokenizer.decode(ids, skip_special=True)
    yield text[len(shown) :]


def prompted(lines: Iterable[str], out: TextIO) -> Iterator[str]:
    """The lines, each after a sign that one is awaited."""
    lines = iter(lines)
    while True:
        print("> ", end="", file=out, flush=True)
        line = next(lines, None)
        if line is None:
            print(file=out)
            return
        yield line


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    lines = prompted(sys.stdin, sys.stderr) if sys.stdin.isatty() else sys.stdin
    return exit_code(lambda: run_command(argv, lines, sys.stdout))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
