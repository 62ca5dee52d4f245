"""The worker that `code.run_tests` asks: lines of JSON in and out. No program runs in it.

It imports nothing of the package, so it starts without JAX. A program is run in two tiers, the
second where the first says nothing:

1. `pydantic-monty`, an interpreter in a process of its own that has no files, sockets or
   processes to give. Fast, and it lacks part of Python.
2. `isolated_program.py`, CPython in namespaces of its own.

The program and its tests run in two such interpreters, so a program cannot touch what judges it:
tests call it with `ask(expression, [arguments], {names})`, which only plain data crosses.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ISOLATED = pathlib.Path(__file__).with_name("isolated_program.py")
SLEEP, LONGEST = 0, 1 << 23  # seconds that a program may sleep; bytes of a reply
FIRST_SECONDS = 1.0  # in the first tier, where there is a second
CALL = "({})(*_arguments, **_names)"
Ask = Callable[..., Any]
# What a program raises in the first tier where that tier may lack something, not the program.
_LACKS = {
    *("SyntaxError", "NotImplementedError", "ImportError", "ModuleNotFoundError", "NameError"),
    *("AttributeError", "TypeError", "PermissionError", "OSError", "TimeoutError"),
}


_UNDEFINED = re.compile(r"NameError: name '([a-zA-Z]\w*)' is not defined")


class Failed(Exception):
    """The code raised, or gave no plain data."""


class Lost(Failed):
    """It ran out of time or memory, or its process ended."""


class Lacking(Exception):
    """This tier cannot say; the message says why."""


def _values() -> Any:
    spec = importlib.util.spec_from_file_location("isolated_program", ISOLATED)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VALUES = _values()


class Monty:
    """The first tier: one session of the sandboxed interpreter."""

    name = "monty"
    pool: Any = None

    def __init__(self, limits: dict[str, Any], last: bool) -> None:
        try:
            import pydantic_monty
        except ImportError as error:
            raise Lacking("install it with: pip install 'gccpo-jax[code]'") from error
        self.monty, self.last = pydantic_monty, last
        if Monty.pool is None:
            Monty.pool = pydantic_monty.Monty(
                max_processes=4,  # two are in use at a time, however few processors there are
                checkout_timeout=10.0,
                feed_duration_limit_grace=0.5,
            ).__enter__()
        seconds = limits["cpu"] if last else min(limits["cpu"], FIRST_SECONDS)
        self.left = seconds
        self.session = Monty.pool.checkout(
            limits={
                "max_feed_duration_secs": seconds,
                "max_memory": limits["bytes"],
                "max_suspensions": 1_000_000,
                "max_total_sleep_secs": SLEEP,
            }
        )

    def __enter__(self) -> Monty:
        self.inside = self.session.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.session.__exit__(*error)

    def feed(self, code: str, inputs: dict[str, Any], ask: Ask | None = None) -> Any:
        if self.left <= 0:
            raise Lost("out of time") if self.last else Lacking("out of time")
        begun, waited = time.monotonic(), 0.0

        def timed(*arguments: Any) -> Any:
            nonlocal waited
            since = time.monotonic()
            try:
                return ask(*arguments)
            finally:
                waited += time.monotonic() - since

        try:
            value = self.inside.feed_run(
                code,
                inputs=inputs,
                external_lookup={"ask": timed} if ask else None,
                print_callback=lambda stream, text: None,
            )
            return VALUES.decode(VALUES.encode(value))
        except self.monty.MontyError as error:
            raise self._judged(error) from error
        except (TypeError, RecursionError, MemoryError) as error:  # no plain data
            raise Lacking(str(error)) from error
        finally:
            self.left -= time.monotonic() - begun - waited

    def _judged(self, error: Any) -> Exception:
        """What an error of the interpreter's means."""
        kind, message = type(error.exception()).__name__, str(error)[:300]
        crashed = isinstance(error, self.monty.MontyCrashedError)
        unsure = crashed or kind in _LACKS or "Internal error" in message
        if (name := _UNDEFINED.match(message)) and not hasattr(builtins, name[1]):
            unsure = False  # no Python has it
        if unsure and not (self.last and (crashed or kind == "TimeoutError")):
            return Lacking(message)
        if crashed or kind in ("TimeoutError", "MemoryError"):
            self.left = 0.0
            return Lost(message)
        return Failed(message)


class Isolated:
    """The second tier: one process of `isolated_program.py`."""

    name = "namespaces"

    def __init__(self, limits: dict[str, Any], last: bool) -> None:
        wall = 3 * limits["cpu"] + 2
        most = {"cpu": limits["cpu"], "wall": wall + 5, "bytes": limits["bytes"]}
        self.deadline = time.monotonic() + wall
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(ISOLATED), json.dumps(most)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        try:
            if "ready" not in (said := self._read()):
                raise Lacking(f"no namespaces: {said.get('unavailable', 'no reply')}")
        except Lost as error:
            self.__exit__()
            raise Lacking("no namespaces: no reply") from error
        except Lacking:
            self.__exit__()
            raise

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *error: Any) -> None:
        """Tells the keeper to end what is inside; it and all of its group if it does not."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def feed(self, code: str, inputs: dict[str, Any], ask: Ask | None = None) -> Any:
        self._write({"code": code, "inputs": {k: VALUES.encode(v) for k, v in inputs.items()}})
        while True:
            reply = self._read()
            try:
                if "ask" in reply and ask:
                    self._write(_answer(ask, VALUES.decode(reply["ask"])))
                elif "value" in reply:
                    return VALUES.decode(reply["value"])
                else:
                    raise Failed(str(reply.get("error", "no reply"))[:300])
            except (TypeError, ValueError, KeyError, RecursionError) as error:
                raise Failed(f"no plain data ({error})") from error

    def _write(self, value: Any) -> None:
        left = memoryview((json.dumps(value) + "\n").encode("ascii"))
        pipe = self.process.stdin.fileno()
        os.set_blocking(pipe, False)
        while left:
            wait = self.deadline - time.monotonic()
            if wait <= 0 or not select.select([], [pipe], [], wait)[1]:
                raise Lost("out of time")
            try:
                left = left[os.write(pipe, left) :]
            except OSError as error:
                raise Lost("its process ended") from error

    def _read(self) -> dict[str, Any]:
        """The next line; its process can write anything."""
        pipe, got = self.process.stdout.fileno(), bytearray()
        while not got.endswith(b"\n"):
            wait = self.deadline - time.monotonic()
            if wait <= 0 or not select.select([pipe], [], [], wait)[0]:
                raise Lost("out of time")
            part = os.read(pipe, 65536)
            if not part or len(got) > LONGEST:
                raise Lost("its process ended" if not part else "it said too much")
            got += part
        try:
            value = json.loads(got)
        except (ValueError, RecursionError) as error:
            raise Failed("no plain data") from error
        if not isinstance(value, dict):
            raise Failed("no plain data")
        return value


def _answer(ask: Ask, arguments: list[Any]) -> dict[str, Any]:
    try:
        return {"value": VALUES.encode(ask(*arguments))}
    except (Failed, RuntimeError) as error:
        return {"error": str(error)[:300]}


TIERS = {"monty": Monty, "namespaces": Isolated}


def judge(request: dict[str, Any]) -> dict[str, Any]:
    """{"passed": [...], "tier"} of a program, or {"unscorable": why} where no tier can say."""
    tiers, reason, found = request["tiers"], [], None
    for number, name in enumerate(tiers):
        last = number == len(tiers) - 1 or not has_namespaces()
        try:
            passed = attempt(TIERS[name], request, last)
        except Lacking as error:
            reason.append(f"{name}: {error}")
            continue
        found = {"passed": passed, "tier": name}
        if last or all(passed) or not request["confirm"]:
            break
    return found or {"unscorable": "; ".join(reason)}


_NAMESPACES: list[bool] = []


def has_namespaces() -> bool:
    """Whether the second tier is to be had; found out once."""
    if not _NAMESPACES:
        try:
            with Isolated({"cpu": 10.0, "bytes": 1 << 29}, True):
                _NAMESPACES.append(True)
        except (Lacking, OSError):
            _NAMESPACES.append(False)
    return _NAMESPACES[0]


def attempt(tier: Any, request: dict[str, Any], last: bool) -> list[bool]:
    """Which tests pass in one tier.

    Raises:
      Lacking: the tier cannot say.
    """
    count, lacking = request["count"], []
    with tier(request, last) as program, tier(request, last) as test:
        try:
            program.feed(request["program"], {})
        except Failed:
            return [False] * count
        gone = False

        def ask(expression: str, arguments: Any = (), names: Any = None) -> Any:
            nonlocal gone
            if lacking or gone:
                raise RuntimeError("the program is gone")
            try:
                code = CALL.format(expression) if names is not None else expression
                given = {"_arguments": list(arguments), "_names": names or {}}
                return program.feed(code, given if names is not None else {})
            except Lacking as error:
                lacking.append(str(error))
                raise RuntimeError("this tier cannot say") from error
            except Lost as error:
                gone = True
                raise RuntimeError(str(error)) from error
            except Failed as error:
                raise RuntimeError(str(error)) from error

        try:
            passed, errors = test.feed(request["test"], {}, ask)
        except Failed:  # on what the program gave it
            passed, errors = [False] * count, []
        if tier is Monty and not all(passed):
            lacking += [f"a test raised {name}" for name in errors if name in _LACKS]
        if lacking:
            raise Lacking(lacking[0])
    return [one is True for one in passed]


def limit_memory(size: int) -> None:
    """Caps this process, and the interpreter that it starts."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    except (ImportError, ValueError, OSError):
        pass  # the interpreter's own limit still holds


def main() -> None:
    """Answers until standard input ends."""
    limit_memory(2 << 30)
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # ends this process
        try:
            reply = judge(request)
        except (MemoryError, OSError) as error:
            reply = {"unscorable": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
