"""Every mistake of a user's is one line, exit code 2, and no half-written state."""

import gc
import json
import subprocess
import sys

import pytest

from gccpo_jax import sft, train
from gccpo_jax.errors import exit_code
from gccpo_jax.runtime import cli
from tests.helpers.paths import ROOT
from tests.helpers.processes import environment

QUICKSTART = str(ROOT / "configs" / "quickstart.py")


def run(capsys, *arguments, command=train.train_and_evaluate):
    """The exit code and what was said, of a command that should fail early."""
    code = cli.main(command, "test", list(arguments))
    return code, capsys.readouterr().err


def plain(tmp_path):
    """A config file with every field at its default."""
    file = tmp_path / "plain.py"
    file.write_text("from gccpo_jax.config import default as get_config\n")
    return str(file)


def refused(capsys, tmp_path, *arguments, says, config=QUICKSTART):
    workdir = tmp_path / "run"
    code, said = run(capsys, "--config", config, "--workdir", str(workdir), *arguments)
    assert code == 2
    assert said.count("\n") == 1 and said.startswith("error: ")
    for text in says if isinstance(says, tuple) else (says,):
        assert text in said
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--config.optim.learning=1", ("config.optim.learning", "lr, warmup")),
        ("--config.nope=1", ("config.nope", "seed, steps")),
        ("--config.steps=abc", ("config.steps", "'abc'", "int")),
        ("--config.steps=0", ("config.steps = 0", "at least 1")),
        ("--config.optim=1", "a section"),
        ("--config.credit.gate=maybe", ("config.credit.gate", "bool")),
        ("--config.credit.kind=nope", ("gated_gae", "outcome")),
        ("--config.group_size=1", ("config.group_size = 1", "at least 2")),
        ("--config.sampling.top_p=0", "config.sampling.top_p"),
        ("--config.counterfactual.boundaries=0", ("boundaries = 0", "outcome")),
        ("--config.mesh.data=3", ("batch_size = 16", "3 x 1")),
        ("--config.mesh.data=16 --config.optim.micro_batch=0", ("needs 16 devices", "8 present")),
        ("--config.optim.micro_batch=5", ("micro_batch = 5", "batch_size = 16")),
        ("--config.optim.memory_gib=1", ("memory_gib = 1", "micro_batch = 8", "either")),
        ("--config.optim.memory_gib=1e-4 --config.optim.micro_batch=0", ("of 1 questions", "GiB")),
        (
            "--config.checkpoint.keep_best=2 --config.eval.every=0",
            ("keep_best = 2", "eval.every is 0"),
        ),
        ("--config.task.name=nope", ("nope", "chain", "gsm8k")),
        ("--config.task.options.nope=1", ("nope", "shortcut")),
        ("--config.data.path=x.jsonl", "leave data.path empty"),
        ("--config.policy.path=/no/such/model", "/no/such/model"),
        ("--config.data.max_prompt_tokens=3", "max_prompt_tokens"),
        ("--config.data.max_prompt_tokens=4000", "context"),
        ("--config.batch_size=100000", "training questions"),
        ("--resume", "nothing to resume"),
        ("--nope=1", "--nope"),
        ("--config.steps", "a value is missing"),
    ],
)
def test_a_bad_argument_is_refused(capsys, tmp_path, argument, says):
    refused(capsys, tmp_path, *argument.split(), says=says)


def test_arms_that_a_task_cannot_do_are_refused(capsys, tmp_path):
    file = tmp_path / "train.jsonl"
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(300)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused(
        capsys, tmp_path,
        "--config.task.name=math", f"--config.data.path={file}",
        "--config.task.options.chat=False", "--config.counterfactual.surface_arms=1",
        says=("surface_arms = 1", "set it to 0"), config=plain(tmp_path),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", ("train.jsonl:2", "JSON")),
        ('{"question": "1 + 1?"}', ("train.jsonl:2", "answer")),
        ('{"question": "", "answer": "2"}', ("train.jsonl:2", "question")),
    ],
)
def test_a_bad_row_names_file_and_line(capsys, tmp_path, line, says):
    file = tmp_path / "train.jsonl"
    file.write_text('{"question": "2 + 2?", "answer": "4"}\n' + line + "\n")
    refused(
        capsys, tmp_path,
        "--config.task.name=gsm8k", f"--config.data.path={file}", says=says,
        config=plain(tmp_path),
    )  # fmt: skip


def test_an_empty_data_set_is_refused(capsys, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text("")
    refused(
        capsys, tmp_path,
        "--config.task.name=gsm8k", f"--config.data.path={file}", says="train.jsonl",
        config=plain(tmp_path),
    )  # fmt: skip


def test_config_files_that_do_not_load(capsys, tmp_path):
    code, said = run(capsys, "--config", "configs/nope.py")
    assert code == 2 and "no such file" in said
    file = tmp_path / "c.py"
    file.write_text("x = 1\n")
    code, said = run(capsys, "--config", str(file))
    assert code == 2 and "get_config" in said
    file.write_text("def get_config():\n    return 1 / 0\n")
    code, said = run(capsys, "--config", str(file))
    assert code == 2 and "line 2" in said and "ZeroDivisionError" in said
    file.write_text("def get_config():\n    return {}['a']\n")
    code, said = run(capsys, "--config", str(file))
    assert code == 2 and "line 2: KeyError" in said


def test_the_argument_of_a_config_file_reaches_it(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(
        "from gccpo_jax.config import default\n"
        "def get_config(steps='1'):\n    c = default()\n    c.steps = int(steps)\n    return c\n"
    )
    config, name, workdir, resume = cli.parse("", ["--config", f"{file}:7", "--config.seed", "3"])
    assert (config.steps, config.seed, name, resume) == (7, 3, "c-7", False)
    assert workdir.parent.name == "runs" and workdir.name.startswith("c-7-")


def test_a_workdir_of_another_run_is_refused(capsys, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps({"seed": 5}))
    code, said = run(capsys, "--config", QUICKSTART, "--workdir", str(workdir))
    assert code == 2 and "another config" in said and "config." in said
    assert sorted(p.name for p in workdir.iterdir()) == ["config.json"]


def test_a_workdir_with_something_else_is_refused(capsys, tmp_path):
    (tmp_path / "holiday.jpg").touch()
    code, said = run(capsys, "--config", QUICKSTART, "--workdir", str(tmp_path))
    assert code == 2 and "not empty" in said
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_unwritable_workdir_is_refused(capsys):
    code, said = run(capsys, "--config", QUICKSTART, "--workdir", "/proc/nope")
    assert code == 2 and "cannot be written" in said


def test_scratch_needs_a_tokenizer_of_the_tasks_own(capsys, tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text('{"question": "2 + 2?", "answer": "4"}\n' * 300)
    code, said = run(
        capsys, "--config", plain(tmp_path), "--config.policy.init=scratch",
        "--config.task.name=gsm8k", f"--config.data.path={file}",
        "--workdir", str(tmp_path / "run"), command=sft.fine_tune,
    )  # fmt: skip
    assert code == 2 and "scratch" in said


def test_the_home_folder_is_one_for_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    plain(tmp_path)
    _, name, workdir, _ = cli.parse("", ["--config", "~/plain.py", "--workdir", "~/run"])
    assert (name, workdir) == ("plain", tmp_path / "run")


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "runs/exp[1]"])
def test_a_workdir_that_cannot_be_written_or_read_back_is_refused(
    capsys, tmp_path, monkeypatch, workdir
):
    monkeypatch.chdir(tmp_path)
    code, said = run(capsys, "--config", QUICKSTART, "--workdir", workdir)
    assert code == 2 and said.startswith("error: ") and workdir in said
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


STARTS = """
import os, signal, sys
from gccpo_jax.runtime import cli

signal.signal(signal.SIGINT, signal.default_int_handler)

def run(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:  # as a library's callback does
        pass
    print("went on", file=sys.stderr)

sys.exit(cli.main(run, "", sys.argv[1:]))
"""


def test_ctrl_c_while_a_run_starts_is_one_line(tmp_path):
    words = [sys.executable, "-c", STARTS, "--config", QUICKSTART, "--workdir", str(tmp_path / "a")]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted before the first step\n")


def test_ctrl_c_in_another_command_is_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert (exit_code(interrupted), capsys.readouterr().err) == (130, "interrupted\n")


def test_a_run_looks_for_garbage_rarely_and_its_caller_as_before(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text("from gccpo_jax.config import default as get_config\n")
    before, seen = gc.get_threshold(), []
    argv = ["--config", str(file), "--workdir", str(tmp_path / "run")]
    try:
        gc.set_threshold(500)
        assert cli.main(lambda *_: seen.append(gc.get_threshold()[0]), "", argv) == 0
        assert seen[0] > 10_000 and gc.get_threshold()[0] == 500
    finally:
        gc.set_threshold(*before)
