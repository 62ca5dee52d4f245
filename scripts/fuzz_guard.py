"""What an input must not bring about: an audit hook that counts it and stops it.

While it is armed no file may be opened for writing, removed or renamed, no network used, no
program started (the verification child aside) and no text compiled as Python. Reading is allowed,
and so is `ast.literal_eval`, which parses and runs nothing.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

CHILD = "equality_program.py"
PREFIXES = (
    *("socket.", "subprocess.", "pty.", "shutil.", "urllib.", "http.", "ftplib.", "smtplib."),
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.putenv", "os.unsetenv", "os.kill", "tempfile.", "webbrowser."),
    *("pickle.find_class", "ctypes.dlopen", "code.__new__"),
)
# What libraries write and compile themselves: SymPy a number that it read and products of
# monomials, `typing` the annotations of the config.
LIBRARIES = re.compile(
    rb"from sympy import \*|int|float|bool|str|dict|[A-Z][a-z]+Config|"
    rb"(Integer|Float|Rational) ?\([0-9 .'\"]*\)\s*|def monomial_\w+\([ABk, ]+\):.*",
    re.DOTALL,
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def offence(event: str, arguments: tuple[Any, ...]) -> str:
    """What an audit event does that it must not; "" for the rest.

    >>> offence("open", ("a.txt", "w", 0)), offence("open", ("a.txt", "r", 0))
    ("open 'a.txt' for writing", '')
    >>> offence("compile", ("1 + 1", "<string>")), offence("socket.connect", ())
    ("compile b'1 + 1'", 'socket.connect ()')
    """
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or flags & WRITING
        ours = isinstance(path, int) or path == os.devnull
        return f"open {path!r} for writing" if writes and not ours else ""
    if event == "compile":
        source, file = arguments
        source = source.encode("utf-8", "replace") if isinstance(source, str) else source
        text = isinstance(file, str) and file.startswith("<") and file != "<unknown>"
        ours = not text or LIBRARIES.fullmatch(source or b"") or _importing()
        return "" if ours else f"compile {source!r}"
    if event == "subprocess.Popen" and any(str(word).endswith(CHILD) for word in arguments[1]):
        return ""
    if event == "os.kill" and arguments[0] not in (0, os.getpid(), os.getppid()):
        return ""  # the verification child, whose deadline passed
    return f"{event} {arguments!r}" if event.startswith(PREFIXES) else ""


def _importing() -> bool:
    """Whether a module is being imported, which may make classes from text."""
    frame = sys._getframe()
    while frame and frame.f_code.co_name != "_find_and_load":
        frame = frame.f_back
    return frame is not None


class Guard:
    """`with guard:` arms the hook; `guard.offences` are those of the last block."""

    def __init__(self) -> None:
        self.offences: list[str] = []
        self._armed = False
        sys.addaudithook(self._hook)

    def __enter__(self) -> Guard:
        self.offences = []
        self._armed = True
        return self

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and (found := offence(event, arguments)):
            self.offences.append(found)
            raise PermissionError(found)


def guard_child(log: str) -> None:
    """In the verification child: from its first question on, an offence is logged and ends it."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    armed = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal armed
        armed = armed or event == "resource.setrlimit"  # the last thing it does before "ready"
        if armed and (found := offence(event, arguments)):
            os.write(file, f"{found}\n".encode("utf-8", "replace"))
            os._exit(1)

    sys.addaudithook(hook)


def child_environment(folder: str, log: str) -> dict[str, str]:
    """Variables under which a Python program that starts calls `guard_child`."""
    here = os.path.dirname(os.path.abspath(__file__))
    call = (
        f"import sys; sys.path.append({here!r}); import fuzz_guard; fuzz_guard.guard_child({log!r})"
    )
    with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as file:
        file.write(call)
    return {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
