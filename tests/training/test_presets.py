"""Presets: each is what it says, costs what is written, and trains."""

import dataclasses
import json
import re

import pytest

from gccpo_jax import presets, train
from gccpo_jax.config import freeze
from gccpo_jax.errors import UserError
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.training.presets import PRESETS
from tests.helpers.paths import ROOT

QUICKSTART = str(ROOT / "configs" / "quickstart.py")
NAMES = [preset.name for preset in PRESETS]
ARMS = "A0 A1 A2 A3 A4 A5 A6 A7 A7b A7c A7d A8 A9 A10 A11 A12 A13".split()


def of(name):
    return freeze(load_config(f"{QUICKSTART}:{name}")[0])


def differing(a, b, path=""):
    """Dotted fields in which two configs differ."""
    out = set()
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if dataclasses.is_dataclass(x):
            out |= differing(x, y, f"{path}{field.name}.")
        elif x != y:
            out.add(path + field.name)
    return out


def test_all_arms_are_there_and_no_name_twice():
    assert set(ARMS) <= set(NAMES) and len(set(NAMES)) == len(NAMES)


def test_the_base_is_the_method_itself():
    assert of("A7") == freeze(load_config(QUICKSTART)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_changes_credit_and_what_it_reads_only(name):
    changed = differing(of("A7"), of(name))
    sections = {path.partition(".")[0] for path in changed}
    allowed = {"credit", "counterfactual", "objective", "reward", "sampling", "group_size", "optim"}
    assert sections <= allowed
    assert bool(changed) == (name != "A7"), "another name for the base"
    if name in ARMS:
        assert not sections & {"objective", "reward", "sampling"}, "arms differ in credit alone"


def test_no_two_presets_are_the_same():
    made = {}
    for name in NAMES:
        twin = made.setdefault(repr(of(name)), name)
        assert twin == name, f"{twin} and {name} are one configuration"


def test_the_method_and_the_paper_have_names():
    assert of("gccpo") == of("A15") and of("gccpo_paper") == of("A13")


def test_single_steps_away_from_the_method():
    base = of("A7")
    expected = {
        "A3": {"credit.step_term"}, "A4": {"credit.step_term"},
        "A5": {"credit.step_term"}, "A7b": {"credit.gate_answer"},
        "A9": {"credit.control"}, "A10": {"credit.control"},
        "A11": {"counterfactual.shared_noise"}, "A12": {"counterfactual.reader"},
        "A7c": {"counterfactual.surface_arms"},
        "A7d": {"credit.gate_by", "counterfactual.equivariance_arms"},
        "A6": {"credit.step_term", "counterfactual.corrupt_arms"},
    }  # fmt: skip
    for name, fields in expected.items():
        assert differing(base, of(name)) == fields, name


def test_more_rollouts_spend_what_the_method_spends():
    cost = {name: presets._cost(QUICKSTART, name) for name in ("A0", "A1", "A7")}
    assert float(cost["A0"]) == 1.0
    assert float(cost["A1"]) == pytest.approx(float(cost["A7"]), rel=0.02)
    assert of("A1").group_size > 8 == of("A0").group_size


def test_what_a_preset_does_not_read_goes_back_to_its_default():
    base = load_config(QUICKSTART)[0]
    base.credit.tokens_per_unit = 50.0
    base.objective.clip_high = 0.3
    assert freeze(presets.apply(base.copy_and_resolve_references(), "A0"))
    assert freeze(presets.apply(base.copy_and_resolve_references(), "gvpo"))
    assert freeze(presets.apply(base, "A9")).credit.tokens_per_unit == 50.0


def test_what_neither_base_nor_preset_reads_is_refused():
    base = load_config(QUICKSTART)[0]
    base.reward.verifier_seconds = 3.0
    with pytest.raises(UserError, match="reward.verifier_seconds = 3.0"):
        freeze(presets.apply(base, "A0"))
    found = load_config(f"{QUICKSTART}:A0")[0]
    found.counterfactual.draws = 16
    with pytest.raises(UserError, match="counterfactual.draws = 16: nothing uses it"):
        freeze(found)


@pytest.mark.parametrize(
    "file", ["qwen2_5_1_5b_gsm8k", "smollm2_gsm8k_cpu", "two_ways", "smollm2_two_ways"]
)
def test_every_preset_can_be_made_of_every_config(file):
    base = str(ROOT / "configs" / f"{file}.py")
    arms = load_config(base)[0].counterfactual
    for name in NAMES:
        if name != "A7c" or arms.surface_arms + arms.equivalent_arms:
            freeze(load_config(f"{base}:{name}")[0])


def test_mistakes_are_named(capsys):
    with pytest.raises(UserError, match="no preset 'A99'; there are A0, A1"):
        load_config(f"{QUICKSTART}:A99")
    base = load_config(QUICKSTART)[0]
    base.counterfactual.surface_arms = 0
    with pytest.raises(UserError, match="it is A7 itself"):
        presets.apply(base, "A7c")
    assert presets.main([]) == 2 and "usage" in capsys.readouterr().err
    assert presets.main(["configs/nope.py"]) == 2


def test_the_documented_table_is_the_one_that_the_command_prints(capsys):
    assert presets.main([QUICKSTART]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed in (ROOT / "docs" / "presets.md").read_text()


def test_the_page_of_cited_systems_names_what_is_there():
    """Presets that exist, all that are not the method's own; tests that their files define."""
    page = (ROOT / "docs" / "cited.md").read_text()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")][1:]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[2])}
    assert named <= set(NAMES) and len(named) > 30
    ours = {"additive", "four_corner", "gccpo_selective"}
    assert {name for name in NAMES if not re.match(r"A\d", name)} - named == ours
    tests = re.findall(r"`(test_\w+)`\]\(\.\./(\S+?)\)", page)
    assert len(tests) >= len(rows) - 2
    for test, file in tests:
        assert f"def {test}(" in (ROOT / file).read_text(), (test, file)


@pytest.mark.slow
@pytest.mark.shares_programs
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_trains(name, tmp_path):
    small = {
        "batch_size": 4, "optim.micro_batch": 2, "checkpoint.every": 0, "log.tensorboard": False,
        "eval.questions": 8, "eval.ood_questions": 0, "task.options.id": 8,
        "task.options.train": 64,
    }  # fmt: skip
    flags = [f"--config.{path}={value}" for path, value in small.items()]
    workdir = tmp_path / name
    argv = ["--config", f"{QUICKSTART}:{name}", "--config.steps=2", *flags]
    assert train.cli.main(train.train_and_evaluate, "", [*argv, "--workdir", str(workdir)]) == 0
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row["grad_norm"] > 0 for row in rows[1:])
