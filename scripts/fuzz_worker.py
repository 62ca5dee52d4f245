"""The process that `fuzz.py` starts: tries inputs one by one and says how each ended.

fuzz_worker.py FOLDER TARGET SEED FIRST END
fuzz_worker.py FOLDER --replay FILE
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pathlib
import resource
import sys
import time
import traceback
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from fuzz_guard import Guard, child_environment
from fuzz_targets import TARGETS, Target

DEADLINE = 5.0  # seconds of this process that an input may take
MEMORY_BYTES = 8 * 2**30


def generate(name: str, seed: int, index: int) -> Any:
    """Input `index` of a target."""
    return TARGETS[name].make(np.random.default_rng([seed, zlib.crc32(name.encode()), index]))


def trial(
    run: Callable[[Any], None], value: Any, guard: Guard, log: pathlib.Path
) -> dict[str, Any]:
    """How an input ended: {"error": whether a UserError, "seconds"}, "failure" if it must not."""
    from gccpo_jax.errors import UserError

    error, failure = False, ""
    size = log.stat().st_size
    begin = time.process_time()  # what other programs take of the machine is no input's time
    try:
        with guard:
            run(value)
    except UserError as told:
        error = True
        if "\n" in str(told):
            failure = f"a message of several lines: {told}"
    except BaseException:  # a panic of Rust is none of Exception
        failure = traceback.format_exc(limit=-6)
    seconds = time.process_time() - begin
    offences = [*guard.offences, *log.read_text()[size:].splitlines()]
    if offences:
        failure = f"{offences[0]}\n{failure}"
    if seconds > DEADLINE:
        failure = f"{seconds:.1f} s\n{failure}"
    found = {"error": error, "seconds": round(seconds, 4)}
    return found | ({"failure": failure} if failure else {})


def fresh_child() -> None:
    """Starts the verification child where the last input ended it: that is no input's time."""
    from gccpo_jax.tasks.checking import equality as verify

    if verify._CHILD.process is None:
        verify._CHILD.start()


def main() -> None:
    folder, name, *rest = sys.argv[1:]
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a target prints is none of our lines
    sys.dont_write_bytecode = True
    if name == "--replay":
        lines = pathlib.Path(rest[0]).read_text(encoding="utf-8").split("\n")
        name, value = ast.literal_eval("".join(x for x in lines if not x.startswith("#")))
        inputs = iter([value])
    else:
        seed, first, end = map(int, rest)
        inputs = (generate(name, seed, index) for index in range(first, end))
    target = TARGETS[name]
    home = pathlib.Path(folder)
    log = home / "offences"
    log.touch()
    os.environ |= child_environment(folder, str(log))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    guard = Guard()
    place = home / "files"
    place.mkdir()
    run = target.open(place)
    with contextlib.suppress(Exception):  # what is imported late is imported now
        warm(target, run, place)
    say(out, {"ready": True})
    for value in inputs:
        put(place, target, value)
        if name == "math":
            fresh_child()
        say(out, trial(run, value, guard, log))


def warm(target: Target, run: Callable[[Any], None], place: pathlib.Path) -> None:
    """A few inputs that are not counted."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        value = target.make(rng)
        put(place, target, value)
        with contextlib.suppress(ValueError):
            run(value)


def put(place: pathlib.Path, target: Target, value: Any) -> None:
    """Writes an input's files in place of the last one's."""
    for file in place.iterdir():
        file.unlink()
    files = target.files(value)
    for name, data in (files if isinstance(files, dict) else {}).items():
        (place / name).write_bytes(data)


def say(out: IO[str], line: dict[str, Any]) -> None:
    out.write(json.dumps(line) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
