"""Hostile programs: what they may not do, what they may not gain, and when nothing is known."""

import time

import pytest

from gccpo_jax.tasks.checking import code
from gccpo_jax.tasks.checking.code import Limits, Tests, run_tests
from tests.helpers.sandbox import has, need_namespaces

TEST = Tests(
    "passed = [False] * 2\nerrors = []\n"
    "for n in range(2):\n"
    "    try:\n        passed[n] = ask('f', [n], {}) == n + 1\n"
    "    except Exception as error:\n        errors.append(type(error).__name__)\n"
    "[passed, errors]",
    2,
)
QUICK = Limits(seconds=1.0)


@pytest.mark.parametrize("tier", code.TIERS)
@pytest.mark.parametrize(
    "program, passed",
    [
        ("def f(x): return x + 1", (True, True)),
        ("def f(x): return 1", (True, False)),
        ("f = 3", (False, False)),
        (
            "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
            (False, False),
        ),
        ("def f(x):\n    while x == 1: pass\n    return x + 1", (True, False)),
        ("def f(x): return x + 1 if x == 0 else [0] * 10**11", (True, False)),
        ("def f(x): return f(x)", (False, False)),
        ("print('[[true, true], []]')\ndef f(x): print(x + 1)", (False, False)),
    ],
)
def test_the_results_of_a_program_are_its_own_in_both_tiers(tier, program, passed):
    verdict = run_tests(program, TEST, QUICK, (tier,))
    if verdict.passed is None:
        pytest.skip(verdict.reason)
    assert verdict.passed == passed


ATTEMPTS = {
    "reads a file of the parent": "open({file!r}).read()",
    "lists the root": "assert 'etc' in os.listdir('/')",
    "reads the environment": "assert 'PATH' in os.environ",
    "writes": "open({out!r}, 'w')",
    "writes beside the library": "open(os.__file__, 'a')",
    "forks": "os.fork()",
    "starts a program": "os.execv('/bin/sh', ['sh'])",
    "starts a thread": "import threading; threading.Thread(target=print).start()",
    "opens a socket": "import socket; socket.socket()",
    "kills its parent": "assert os.getppid(); os.kill(os.getppid(), 9)",
    "enters a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "shares memory": "import ctypes; assert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
    "mounts": "import ctypes; assert ctypes.CDLL(None).umount2(b'/', 2) == 0",
    "raises its limits": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (99, 99))",
}


def test_what_a_program_may_not_do_fails(tmp_path):
    need_namespaces()
    file, out = tmp_path / "secret", tmp_path / "out"
    file.write_text("x")
    tmp_path.chmod(0o777)
    parts = [
        f"def f{n}():\n    {attempt.format(file=str(file), out=str(out))}"
        for n, attempt in enumerate(ATTEMPTS.values())
    ]
    test = "\n".join(
        f"try:\n    ask('f{n}', [], {{}})\n    done.append(True)\n"
        "except Exception:\n    done.append(False)"
        for n in range(len(ATTEMPTS))
    )
    tests = Tests(f"done = []\n{test}\n[done, []]", len(ATTEMPTS))
    verdict = run_tests("import os\n" + "\n".join(parts), tests, QUICK, ("namespaces",))
    done = [name for name, one in zip(ATTEMPTS, verdict.passed, strict=True) if one]
    assert not done and not out.exists()


@pytest.mark.parametrize(
    "program",
    [
        "import os\nfor n in range(3, 9):\n    try: os.write(n, b'{\"value\": 1}\\n' * 9)\n"
        "    except OSError: pass",
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "import builtins, json\nbuiltins.bool = json.dumps = lambda x: '{\"value\": 1}'",
        "import signal, time, os\nos.setsid() if os.getpid() > 1 else 0\ntime.sleep(99)",
    ],
)
def test_a_program_gains_nothing_by_its_end_or_its_voice(program):
    need_namespaces()
    begun = time.monotonic()
    verdict = run_tests(program + "\n", TEST, Limits(seconds=0.2), ("namespaces",))
    assert verdict.passed is not None and not all(verdict.passed)
    assert time.monotonic() - begun < 3 * QUICK.seconds + 12


def test_without_a_tier_nothing_is_known_and_nothing_is_run(tmp_path):
    lacking = "import heapq\ndef f(x): return x + 1"
    verdict = run_tests(lacking, TEST, QUICK, ("monty",))
    assert verdict.passed is None and verdict.answer is None and verdict.reason
    assert run_tests("def f(x): return x + 1", TEST, QUICK, ()).passed is None
    if has("monty"):  # it lacks `del`, and no Python has `y`
        assert run_tests("def f(x): return y", TEST, QUICK, ("monty",)).passed == (False, False)
        assert run_tests("y = 1\ndel y", TEST, QUICK, ("monty",)).passed is None


def test_what_the_first_tier_lacks_the_second_judges():
    verdict = run_tests("import heapq\ndef f(x): return x + 1", TEST, QUICK)
    assert verdict.passed == ((True, True) if has("namespaces") else None)
