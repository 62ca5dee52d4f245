"""Hostile inputs for everything that reads what others wrote: models, users, files.

    python scripts/fuzz.py [--inputs 10000] [--seed 0] [--target NAME] [--failures DIR]
    python scripts/fuzz.py --replay FILE

An input passes if it gives a result or a `UserError` of one line, before the deadline, without
a file written, a connection, another program or text run as Python (`fuzz_guard.py`). Each target
runs in a process of its own, so a crash or a hang costs one input; an input that fails is written
to a file that `--replay` takes. The last line on standard output is JSON:
{target: {"inputs", "errors" (UserErrors), "failures", "seconds", "slowest"}}. Inputs are a
function of the seed. Exit code: 1 if an input failed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from fuzz_targets import TARGETS
from fuzz_worker import generate
from rich.console import Console
from rich.progress import Progress

START = 180.0  # seconds a worker may take to import and to compile
HANG = 60.0  # seconds of the clock without an answer, whatever else the machine does
ALL = 10_000
WORKER = pathlib.Path(__file__).with_name("fuzz_worker.py")


class Worker:
    """The process that tries inputs; a line of JSON for each."""

    def __init__(self, *words: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._errors = pathlib.Path(self._folder.name) / "stderr"
        command = [sys.executable, str(WORKER), self._folder.name, *words]
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "JAX_PLATFORMS": "cpu"},
            )
        self._buffer = b""

    def lines(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What it says, until it ends or is silent for too long; then why."""
        assert self.process.stdout is not None
        limit = START
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                found = json.loads(line)
                limit = deadline
                yield found
            if not select.select([self.process.stdout], [], [], limit)[0]:
                yield {"failure": f"no end after {limit} s"}
                return
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                code = self.process.wait()
                if code:
                    said = self._errors.read_text(errors="replace")[-2000:]
                    yield {"failure": f"the process ended with {code}: {said}"}
                return
            self._buffer += read

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._folder.cleanup()


def shares(inputs: int, only: str | None) -> dict[str, int]:
    """Inputs of each target: all of one, or in the proportions of `TARGETS`."""
    if only:
        return {only: inputs}
    return {name: max(1, inputs * t.inputs // ALL) for name, t in TARGETS.items()}


def fuzz(name: str, seed: int, count: int, failures: pathlib.Path, progress: Progress) -> dict:
    """Tries `count` inputs of a target; a failing one is written into `failures`."""
    found = {"inputs": 0, "errors": 0, "failures": 0, "seconds": 0.0, "slowest": 0.0}
    task = progress.add_task(name, total=count)
    begin = time.monotonic()
    done = 0
    while done < count:
        worker = Worker(name, str(seed), str(done), str(count))
        for said in worker.lines(HANG):
            if said.get("ready"):
                continue
            if failure := said.get("failure"):
                found["failures"] += 1
                file = write(failures, name, seed, done, failure)
                progress.console.print(
                    f"{name} {done}: {failure.strip()[-500:]}; replay {file}", markup=False
                )
            found["errors"] += said.get("error", False)
            found["slowest"] = round(max(found["slowest"], said.get("seconds", 0.0)), 3)
            done += 1
            progress.update(task, completed=done)
        worker.close()
    return found | {"inputs": count, "seconds": round(time.monotonic() - begin, 1)}


def write(failures: pathlib.Path, name: str, seed: int, index: int, failure: str) -> pathlib.Path:
    """Writes an input and how it failed."""
    failures.mkdir(parents=True, exist_ok=True)
    file = failures / f"{name}-{seed}-{index}.txt"
    text = repr((name, generate(name, seed, index)))
    comment = "".join(f"# {line}\n" for line in failure.splitlines())
    file.write_text(comment + text + "\n", encoding="utf-8", errors="backslashreplace")
    return file


def replay(file: pathlib.Path) -> int:
    """Tries the input of a file again and prints what it did."""
    worker = Worker("--replay", str(file))
    failed = 0
    for said in worker.lines(HANG):
        if "ready" not in said:
            print(said.get("failure") or said)
            failed |= "failure" in said
    worker.close()
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=ALL)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--failures", type=pathlib.Path, default=pathlib.Path("fuzz-failures"))
    parser.add_argument("--replay", type=pathlib.Path)
    options = parser.parse_args()
    if options.replay:
        return replay(options.replay)
    table = {}
    with Progress(console=Console(stderr=True)) as progress:
        for name, count in shares(options.inputs, options.target).items():
            table[name] = fuzz(name, options.seed, count, options.failures, progress)
    print(json.dumps(table))
    return int(any(row["failures"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
