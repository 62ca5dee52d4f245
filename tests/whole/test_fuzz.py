"""The fuzzer: every target on a few inputs, and that what must be found is found."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gccpo_jax.analysis.labelled import read_labelled
from gccpo_jax.errors import UserError
from tests.helpers.paths import SCRIPTS
from tests.helpers.processes import environment

pytest.importorskip("math_verify", reason="math-verify is not installed")
pytest.importorskip("gguf")
sys.path.append(str(SCRIPTS))
import fuzz
from fuzz_guard import Guard, child_environment
from fuzz_targets import TARGETS
from fuzz_worker import generate, put, trial, warm

GUARD = Guard()  # a hook stays as long as its process


@pytest.fixture
def log(tmp_path):
    file = tmp_path / "offences"
    file.touch()
    return file


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_give_results_or_errors_for_the_user(name, tmp_path, log, monkeypatch):
    """34 of the 10,000 for each target, in this process."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    place = tmp_path / "files"
    place.mkdir()
    target = TARGETS[name]
    run = target.open(place)
    warm(target, run, place)
    for index in range(34):
        value = generate(name, 0, index)
        put(place, target, value)
        found = trial(run, value, GUARD, log)
        assert "failure" not in found, (name, index, found["failure"])


def test_an_input_is_a_function_of_seed_and_index():
    for name in TARGETS:
        found = [[repr(generate(name, seed, n)) for n in range(8)] for seed in (0, 1, 0)]
        assert found[0] == found[2] != found[1] and len(set(found[0])) > 4
    assert sum(target.inputs for target in TARGETS.values()) == fuzz.ALL
    assert sum(fuzz.shares(fuzz.ALL, None).values()) == fuzz.ALL


def evil(kind, folder):
    match kind:
        case "write":
            (folder / "x").write_text("x")
        case "swallowed":
            try:
                (folder / "x").write_text("x")
            except OSError:
                pass
        case "remove":
            os.remove(folder / "offences")
        case "connect":
            socket.create_connection(("127.0.0.1", 9))
        case "program":
            subprocess.run(["true"])
        case "shell":
            os.system("true")
        case "eval":
            eval("1 + 1")
        case "exec":
            exec("x = 1")
        case "crash":
            raise KeyError("x")
        case "panic":
            raise BaseException("Rust")


KINDS = [
    *(("write", "open "), ("swallowed", "open "), ("remove", "os.remove"), ("connect", "socket.")),
    *(("program", "subprocess."), ("shell", "os.system"), ("eval", "compile"), ("exec", "compile")),
    *(("crash", "Traceback"), ("panic", "Traceback")),
]


@pytest.mark.parametrize(("kind", "says"), KINDS)
def test_what_an_input_must_not_do_is_found(kind, says, tmp_path, log):
    found = trial(lambda _: evil(kind, tmp_path), None, GUARD, log)
    assert found["failure"].startswith(says) and not found["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["offences"], "and it did not happen"


def test_reading_and_errors_for_the_user_are_allowed(tmp_path, log):
    def refuse(_):
        log.read_text()
        raise UserError("no")

    assert "failure" not in trial(lambda _: log.read_text(), None, GUARD, log)
    assert trial(refuse, None, GUARD, log) | {"seconds": 0} == {"error": True, "seconds": 0}


CHILD = "import resource as r; r.setrlimit(r.RLIMIT_CORE, (0, 0)); {}; print('on')"


@pytest.mark.parametrize(
    ("does", "goes_on"),
    [("eval('1')", False), ("open('x', 'w')", False), ("open('/dev/null')", True)],
)
def test_the_verification_child_is_guarded_too(tmp_path, log, does, goes_on):
    env = os.environ | child_environment(str(tmp_path), str(log))
    code = tmp_path / "child.py"
    code.write_text(CHILD.format(does))
    done = subprocess.run([sys.executable, "-P", str(code)], env=env, cwd=tmp_path, text=True,
                          capture_output=True)  # fmt: skip
    assert (done.stdout == "on\n") == goes_on == (not log.read_text()), done.stderr
    assert not (tmp_path / "x").exists()


WORKER = """
import os, sys, time
print('{"ready": true}\\n{"error": true, "seconds": 0.5}', flush=True)
if int(sys.argv[4]) < 2:
    HOW
"""


@pytest.mark.parametrize(
    ("how", "says"), [("time.sleep(60)", "no end after 1.0 s"), ("os._exit(7)", "ended with 7")]
)
def test_a_hang_or_a_crash_costs_one_input_and_is_written_down(tmp_path, monkeypatch, how, says):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.replace("HOW", how))
    monkeypatch.setattr(fuzz, "WORKER", worker)
    monkeypatch.setattr(fuzz, "HANG", 1.0)
    progress = fuzz.Progress(console=fuzz.Console(stderr=True))
    found = fuzz.fuzz("chain", 3, 3, tmp_path / "failures", progress)
    assert found | {"seconds": 0} == {
        "inputs": 3, "errors": 2, "failures": 1, "seconds": 0, "slowest": 0.5
    }  # fmt: skip
    (file,) = (tmp_path / "failures").iterdir()
    assert file.name == "chain-3-1.txt" and says in file.read_text()
    last = [line for line in file.read_text().split("\n") if line and line[0] != "#"]
    assert last == [repr(("chain", generate("chain", 3, 1)))]


def test_a_replay_tries_the_input_of_a_file(tmp_path):
    file = tmp_path / "labelled-0-0.txt"
    file.write_text("# how it failed\n" + repr(("labelled", b'{"question": 3}')) + "\n")
    done = subprocess.run([sys.executable, str(SCRIPTS / "fuzz.py"), "--replay", str(file)],
                          env=environment(), capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "'error': True" in done.stdout, done.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)
ROW = st.fixed_dictionaries(
    {"question": st.just("q") | JSON},
    optional={name: JSON for name in ("steps", "label", "labels", "answer", "id")},
)


@given(ROW)
def test_any_row_of_json_is_read_or_refused(tmp_path_factory, row):
    file = tmp_path_factory.getbasetemp() / "row.jsonl"
    file.write_text(json.dumps(row))
    try:
        (found,) = read_labelled(str(file))
    except UserError as error:
        assert f"{file}:1: " in str(error)
    else:
        assert found.question == row["question"].strip()


@pytest.mark.slow
def test_ten_thousand_hostile_inputs(tmp_path):
    words = [sys.executable, str(SCRIPTS / "fuzz.py"), "--failures", str(tmp_path / "failures")]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-5000:]
    table = json.loads(done.stdout.splitlines()[-1])
    assert sum(row["inputs"] for row in table.values()) == 10_000 and set(table) == set(TARGETS)
    assert not any(row["failures"] for row in table.values())
    assert np.max([row["slowest"] for row in table.values()]) < 5
    assert not (tmp_path / "failures").exists()
