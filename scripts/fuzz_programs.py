"""Hostile programs for the sandbox that tests of code run in.

    python scripts/fuzz_programs.py [--programs 300] [--seed 0] [--seconds 0.5] [--tier NAME]

Each is an attack in one of four wrappings. It passes if no test of it does, nothing of the parent's
is read or changed, nobody is killed or called, no process is left, and the verdict comes before
the deadline. The last line on standard output is JSON: {"programs", "unscorable", "tiers",
"escapes": [...], "slowest", "median", "left"}. Exit code: 1 if anything escaped or hung.
"""

from __future__ import annotations

import argparse
import base64
import collections
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np

from gccpo_jax.tasks.checking.code import TIERS, Limits, Tests, run_tests

SECRET = "canary-5d1f"
# Two tests: that the result is right, and that it tells what only the parent knows.
TESTS = Tests(
    f"passed, errors = [False] * 2, []\n"
    "for n in range(2):\n"
    "    try:\n"
    "        found = ask('f', [n], {})\n"
    f"        passed = [passed[0] or found == n + 1, passed[1] or {SECRET!r} in repr(found)]\n"
    "    except Exception as error:\n"
    "        errors.append(type(error).__name__)\n"
    "[passed, errors]",
    2,
)
# Lines of a function of x; {file}, {out}, {port}, {pid} and {n} are filled in.
ATTACKS = {
    "reads a file": "return open({file!r}).read()",
    "reads through a descriptor": "import os\nreturn os.read({n}, 999).decode()",
    "reads the environment": "import os\nreturn str(dict(os.environ))",
    "reads the parent in /proc": "return open('/proc/{pid}/environ').read()",
    "lists everything": "import os\nreturn str([f for _, _, f in os.walk('/home')]) + "
    "str(os.listdir({file!r}[:4]))",
    "writes a file": "open({out!r}, 'w').write('x')\nreturn 0",
    "writes by a new descriptor": "import os\nos.open({out!r}, os.O_CREAT | os.O_WRONLY)\nreturn 0",
    "removes a file": "import os\nos.remove({file!r})\nreturn 0",
    "removes a tree": "import shutil\nshutil.rmtree({file!r}.rpartition('/')[0])\nreturn 0",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "thread bomb": "import threading, time\nwhile True:\n"
    "    threading.Thread(target=time.sleep, args=(99,)).start()",
    "shell": "import os\nreturn os.system('echo x > {out}')",
    "subprocess": "import subprocess\nreturn subprocess.run(['touch', {out!r}])",
    "connects": "import socket\ns = socket.create_connection(('127.0.0.1', {port}), 1)\nreturn 0",
    "connects by urllib": "import urllib.request\n"
    "return urllib.request.urlopen('http://127.0.0.1:{port}', timeout=1).read()",
    "kills the parent": "import os\nos.kill({pid}, 9)\nos.kill(os.getppid(), 9)\nreturn 0",
    "kills all": "import os\nos.killpg(0, 9) if {n} % 2 else os.kill(-1, 9)\nreturn 0",
    "ten gigabytes": "return len([{n}] * (10 * 2**30 // 8))",
    "grows for ever": "a = 'x' * 99\nwhile True:\n    a += a",
    "regex bomb": "import re\nreturn re.match('(a|aa)+$', 'a' * 5{n} + 'b') and 1",
    "endless recursion": "return f(x)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10**9)\nreturn f(x + 1)",
    "endless loop": "while True:\n    pass",
    "sleeps": "import time\ntime.sleep(9{n})\nreturn x + 1",
    "huge number": "return len(str(9 ** 9 ** 9)) + 10**10**{n}",
    "exits": "import sys\nsys.exit({n} % 2)",
    "exits at once": "import os\nos._exit(0)",
    "prints the expected": "print('[[true, true], []]' * {n})\nprint(x + 1)\nreturn None",
    "writes the reply": "import os\nfor d in range(1, 32):\n    try:\n"
    '        os.write(d, b\'{{"value": 1}}\\n{{"value": [[true, true], []]}}\\n\')\n'
    "    except OSError:\n        pass\nreturn 0",
    "patches builtins": "import builtins\nbuiltins.__dict__.update(repr=str, bool=lambda x: True)\n"
    "return 0",
    "patches the test": "import sys\nfor m in list(sys.modules.values()):\n"
    "    for name in ('passed', 'ask', 'feed', 'encode'):\n        m.__dict__[name] = [1, 1]\n"
    "return 0",
    "equals everything": "class A(int):\n    def __eq__(s, o):\n        return True\n"
    "    def __repr__(s):\n        return 'A'\nreturn A(-{n})",
    "floods the reply": "return ['x' * 9{n}] * 10**6",
    "nests the reply": "a = []\nfor n in range(10**5):\n    a = [a]\nreturn a",
    "enters namespaces": "import ctypes\nc = ctypes.CDLL(None)\nc.unshare(0x10000000)\n"
    "c.mount(b'none', b'/', b'tmpfs', 0, None)\nreturn open({file!r}).read()",
    "keeps memory": "import ctypes\nc = ctypes.CDLL(None)\n"
    "return c.shmget({n}, 1 << 30, 0o1666) and 0",
}
WRAPPINGS = ("call", "start", "hidden", "stubborn")


def program(name: str, wrapping: str, values: dict) -> str:
    """The attack in a wrapping, as source."""
    lines = ATTACKS[name].format(**values).split("\n")
    body = "\n".join("    " + line for line in lines)
    match wrapping:
        case "call":
            return f"def f(x):\n{body}\n"
        case "start":
            return f"def f(x):\n{body}\ntry:\n    f(-7)\nexcept Exception as e:\n    print(e)\n"
        case "hidden":
            code = base64.b64encode(f"def f(x):\n{body}\n".encode()).decode()
            return f"import base64\nexec(base64.b64decode({code!r}).decode())\n"
    inside = "\n".join("    " + line for line in body.split("\n"))
    return f"def f(x):\n    try:\n{inside}\n    except BaseException:\n        return f(x)\n"


def left_over() -> list[int]:
    """Isolated interpreters that this process started and that are still there."""
    found, me = [], os.getpid()
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if b"isolated_program" not in (folder / "cmdline").read_bytes():
                continue
            ancestor = int(folder.name)
            while ancestor > 1 and ancestor != me:
                stat = pathlib.Path(f"/proc/{ancestor}/stat").read_text()
                ancestor = int(stat.rpartition(")")[2].split()[1])
        except OSError:
            continue
        if ancestor == me:
            found.append(int(folder.name))
    return found


def fuzz(count: int, seed: int, limits: Limits, tiers: tuple[str, ...] = TIERS) -> dict:
    """Runs `count` programs; what came of them."""
    rng = np.random.default_rng(seed)
    names = [[*ATTACKS][int(n)] for n in rng.permutation(len(ATTACKS))]
    escapes, times, used, unscorable = [], [], collections.Counter(), 0
    os.environ["GCCPO_FUZZ"] = SECRET
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        file, out = pathlib.Path(folder, "secret"), pathlib.Path(folder, "out")
        file.write_text(SECRET)
        file.chmod(0o644)
        os.chmod(folder, 0o777)
        for n in range(count):
            name, wrapping = names[n % len(names)], WRAPPINGS[(n + n // len(names)) % 4]
            values = {"file": str(file), "out": str(out), "port": server.getsockname()[1]}
            values |= {"pid": victim.pid, "n": int(rng.integers(1, 10))}
            begun = time.monotonic()
            verdict = run_tests(program(name, wrapping, values) + f"# {n}\n", TESTS, limits, tiers)
            times.append(time.monotonic() - begun)
            used[verdict.tier or "none"] += 1
            unscorable += verdict.passed is None
            signs = {
                "a test passed": verdict.passed is not None and any(verdict.passed),
                "a file changed": out.exists() or file.read_text() != SECRET,
                "somebody was killed": victim.poll() is not None,
                "somebody was called": _called(server),
                "it hung": times[-1] > limits.deadline,
            }
            escapes += [f"{name} ({wrapping}): {sign}" for sign, seen in signs.items() if seen]
    victim.kill()
    victim.wait()
    return {
        "programs": count,
        "unscorable": unscorable,
        "tiers": dict(used),
        "escapes": escapes,
        "slowest": round(max(times), 2),
        "median": round(float(np.median(times)), 3),
        "deadline": limits.deadline,
        "left": len(left_over()),
    }


def _called(server: socket.socket) -> bool:
    try:
        server.accept()
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """Runs the command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.5, help="of processor per program")
    parser.add_argument("--tier", choices=TIERS, help="only this one")
    a = parser.parse_args()
    tiers = (a.tier,) if a.tier else TIERS
    found = fuzz(a.programs, a.seed, Limits(seconds=a.seconds), tiers)
    print(json.dumps(found))
    return 1 if found["escapes"] or found["left"] else 0


if __name__ == "__main__":
    sys.exit(main())
