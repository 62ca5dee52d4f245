"""Which tests a program passes. Programs are hostile: none runs in this process, none runs bare.

A child worker (`code_program.py`) runs program and tests in two sandboxes of one of two tiers. A
program that raises, takes too much time or memory, or ends its process fails the tests that are
left: that is its own doing. Where no tier can be had, or the one there is lacks what a program
needs, nothing is known (`Verdict.passed` is None): unscorable, never wrong.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import threading

from gccpo_jax.tasks.checking.child import Child

TIERS = ("monty", "namespaces")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Tests:
    """Python whose last line is [whether each test passes, names of exceptions it caught].

    It calls the program with `ask(...)`, which raises RuntimeError where that fails:

    `ask(expression)` is the value of an expression in the program's own process, and
    `ask(function, [arguments], {names})` that of a call with plain data.
    """

    source: str
    count: int  # of tests

    __test__ = False  # no class of tests for pytest


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of one program, all its tests together."""

    seconds: float = 2.0  # of a processor; in the first tier one second by the clock
    mebibytes: int = 512
    # Whether the second tier looks at what the first refuses: that one differs where Python
    # leaves it open, in the order of a set for one.
    confirm: bool = True

    @property
    def deadline(self) -> float:
        """Seconds by the clock after which a verdict is given up; inner deadlines come first."""
        return 12 * self.seconds + 30


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is known of a program."""

    passed: tuple[bool, ...] | None  # a test each; None: unscorable
    tier: str = ""  # that judged it
    reason: str = ""  # why it is unscorable

    @property
    def answer(self) -> str | None:
        """The results as text, "1" for a test that passes: "110"."""
        return None if self.passed is None else "".join(str(int(one)) for one in self.passed)


def run_tests(
    program: str, tests: Tests, limits: Limits = Limits(), tiers: tuple[str, ...] = TIERS
) -> Verdict:
    """The verdict on a program; a function of its arguments, and remembered.

    Args:
      program: Python source. tests: what to ask of it. tiers: that may be used, in this order.
    """
    key = (program, tests, limits, tiers)
    with _LOCK:
        known = _KNOWN.get(key)
    if known is not None:
        return known
    request = {
        "program": program,
        "test": tests.source,
        "count": tests.count,
        "cpu": limits.seconds,
        "bytes": limits.mebibytes << 20,
        "tiers": list(tiers),
        "confirm": limits.confirm,
    }
    reply = _CHILD.ask(request, limits.deadline)
    found = json.loads(reply) if reply else {"unscorable": "the worker was lost"}
    if "passed" not in found:
        _warn(found["unscorable"])
        return Verdict(None, reason=found["unscorable"])
    verdict = Verdict(tuple(found["passed"]), found["tier"])
    with _LOCK:
        _KNOWN[key] = verdict
        while len(_KNOWN) > _REMEMBERED:
            _KNOWN.popitem(last=False)
    return verdict


def _warn(reason: str) -> None:
    if reason not in _WARNED:
        _WARNED.add(reason)
        _log.warning("a program is unscorable: %s", reason)


_REMEMBERED = 20_000
_KNOWN: collections.OrderedDict[tuple, Verdict] = collections.OrderedDict()
_WARNED: set[str] = set()
_LOCK = threading.Lock()
_CHILD = Child(
    "code_program.py",
    "the worker that runs programs",
    "it needs Python alone; try: python -m gccpo_jax.tasks.checking.code_program",
)
