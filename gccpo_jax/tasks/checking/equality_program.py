"""The program that `equality.open_math` runs: lines of JSON in, `0` or `1` out.

It imports nothing of the package, so it starts without JAX.
"""

from __future__ import annotations

import json
import signal
import sys

MEMORY_BYTES = 4 * 2**30  # an expression such as 9**9**9 must not take the machine along


def limit_memory() -> None:
    """Caps this process's memory where the system can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # the deadline still holds


def equal(gold: str, text: str) -> bool:
    """Whether the final expression of `text` has the value of `gold`."""
    from math_verify import LatexExtractionConfig, parse, verify

    # LaTeX alone, which has a grammar: expressions outside it are evaluated as Python. The
    # caller's deadline ends this process, so the library's own alarms are off.
    latex = [LatexExtractionConfig()]
    target = parse("\\boxed{" + gold + "}", latex, parsing_timeout=None)
    answer = parse(text, latex, parsing_timeout=None)
    return bool(verify(target, answer, timeout_seconds=None))


def main() -> None:
    """Answers until standard input ends."""
    try:
        import math_verify  # noqa: F401
    except ImportError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return
    limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # ends this process
        try:
            reply = str(int(equal(request["gold"], request["text"])))
        except MemoryError:
            reply = "memory"
        except Exception:  # whatever SymPy makes of hostile text
            reply = "0"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(reply, flush=True)


if __name__ == "__main__":
    main()
