"""The program in a response: fenced or bare, whole or the rest of a prompt. No parser reads it."""

from __future__ import annotations

import re
import textwrap

_FENCE = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def program_of(response: str, entry: str, prompt: str = "") -> str:
    """The program that a response holds or completes.

    The last fenced block that defines `entry`, else the last one, else the response. If it does
    not define `entry`, it is the body that goes on from `prompt`, up to the first line that does
    not belong to it. What `prompt` has before `entry` (imports, helpers) comes first either way.

    >>> program_of("    return x\\nprint(f(1))", "f", "def f(x):\\n")
    'def f(x):\\n    return x\\n'
    """
    blocks = _FENCE.findall(response)
    whole = [block for block in blocks if _defines(block, entry)]
    code = (whole or blocks or [response])[-1]
    if _defines(code, entry):
        return prompt[: _start(prompt, entry)] + textwrap.dedent(code)
    return prompt + _body(code) if prompt else code


def _defines(code: str, name: str) -> bool:
    return bool(_definition(name).search(code))


def _start(prompt: str, entry: str) -> int:
    found = _definition(entry).search(prompt)
    return found.start() if found else 0


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"^(?:async )?(?:def|class) +{re.escape(name)}\b|^{re.escape(name)} *=", re.M
    )


def _body(code: str) -> str:
    """An indented body without what comes after it."""
    lines = code.strip("\n").split("\n")
    if lines[0] and not lines[0][0].isspace():  # the first indentation was stripped, or all were
        bare = any(line and not line[0].isspace() for line in lines[1:])
        lines = (
            [line and "    " + line for line in lines] if bare else ["    " + lines[0], *lines[1:]]
        )
    kept = []
    for line in lines:
        if line.strip() and not line[0].isspace():
            break
        kept.append(line)
    return "\n".join(kept).rstrip() + "\n"
