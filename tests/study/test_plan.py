"""Plans: what a cell's command line is, and what is refused before anything runs."""

import runpy

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.runtime import cli
from gccpo_jax.study import plan
from gccpo_jax.study.__main__ import main
from tests.helpers.paths import ROOT

QUICK = str(ROOT / "configs/quickstart.py")


def study(**changes):
    found = plan.default().to_dict() | {"base": QUICK} | changes
    return plan.freeze_study(found)


def test_a_cell_is_a_command_that_makes_its_config():
    one = study(
        arms={"A0": "A0", "fast": "A7 optim.lr=0.5"},
        method="fast",
        evaluate_every=7,
        changes="optim.lr=0.25 task.options.train=64",
    )
    made = plan.cell(one, "fast", 3, 9, "runs/x/policy")
    config, _, _, resume = cli.parse("", list(made.words))
    assert config == made.config and not resume
    assert (config.seed, config.steps, config.eval.every) == (3, 9, 7)
    assert config.policy.path == "runs/x/policy"
    assert config.optim.lr == 0.5, "an arm's own change comes last"
    assert config.task.options["train"] == 64
    assert plan.cell(one, "A0", 3, 9, "").config.credit.kind == "outcome"
    assert made.name == "fast-seed3-updates9"


def test_comparisons_are_the_method_against_rivals_and_the_pairs():
    arms = {name: name for name in ("A0", "A2", "A7", "A8")}
    one = study(arms=arms, rivals=("A0", "A2"), pairs=("A8-A0",))
    assert plan.comparisons(one) == {
        "method-A0": ("A7", "A0"),
        "method-A2": ("A7", "A2"),
        "A8-A0": ("A8", "A0"),
    }


@pytest.mark.parametrize(
    "budget, tokens, updates, expected", [(100, 100, 7, 7), (790, 100, 10, 79), (1, 100, 10, 1)]
)
def test_equal_tokens_are_as_many_updates_as_they_pay_for(budget, tokens, updates, expected):
    assert plan.matched_updates(budget, tokens, updates) == expected


def test_the_plan_that_ships_confirms_on_seeds_that_the_search_has_not():
    get_config = runpy.run_path(str(ROOT / "configs/study.py"))["get_config"]
    search, confirm = (plan.freeze_study(get_config(p).to_dict()) for p in ("search", "confirm"))
    assert confirm.confirms and not search.confirms
    assert len(confirm.seeds) >= 5 and not {*search.seeds} & {*confirm.seeds}
    assert {"A0", "A2", "A8"} <= set(confirm.rivals)


REFUSED = {
    "seeds=()": "study.seeds = (): expected at least one seed",
    "seeds=(1, 1)": "study.seeds = (1, 1): expected each seed once",
    "method='A9'": "study.method: there is no arm 'A9'; there are A0, A7",
    "rivals=('A2',)": "study.rivals: there is no arm 'A2'",
    "pairs=('A7-A2',)": "study.pairs: 'A7-A2': there is no arm 'A2'",
    "sft='a.py'; s.policy='b'": "study.policy = 'b' with study.sft = 'a.py'",
    "arms={'A0': 'A0', 'A7': 'A7 seed=3'}": "study.arms.A7: 'seed=3' is set by the study",
    "arms={'A0': 'A0', 'A7': 'A7 fast'}": "study.arms.A7: 'fast': expected <field>=<value>",
    "arms={'A0': 'A0', 'A7': 'nothing'}": "there is no preset 'nothing'",
    "arms={'A0': 'A0', 'A7': 'A7', 'a-b': 'A7'}": "study.arms.a-b = 'A7': expected a name",
    "changes='optim.lr=x'": "config.optim.lr = 'x': expected float",
    "updates=0": "study.updates = 0: expected at least 1",
}


@pytest.mark.parametrize("change", REFUSED)
def test_a_plan_that_cannot_be_is_refused_at_once(tmp_path, capsys, change):
    file = tmp_path / "plan.py"
    lines = [
        "from gccpo_jax.study.plan import default",
        "def get_config():",
        f"    s = default(); s.base = {QUICK!r}",
        f"    with s.ignore_type(): s.{change}",
        "    return s",
    ]
    file.write_text("\n".join(lines))
    assert main(["--config", str(file), "--workdir", str(tmp_path / "w")]) == 2
    assert REFUSED[change] in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "one of the arguments"),
        (["--tables", "a", "--config", "b"], "not allowed with"),
        (["--config", "no.py"], "no such file"),
        (["--tables", "no.jsonl"], "cannot be read"),
        (["--config", "no.py", "--jobs", "0"], "--jobs 0: expected at least 1"),
    ],
)
def test_the_command_line_says_what_is_wrong(capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_the_base_has_no_argument_since_the_arm_is_it():
    with pytest.raises(UserError, match="base = 'a.py:A7'"):
        study(base="a.py:A7")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tables x.jsonl --jobs 2", "leave --workdir and --jobs out"),
        ("--config plan.py --out x", "leave it out"),
    ],
)
def test_an_option_that_nothing_reads_is_refused(words, said, capsys):
    assert main(words.split()) == 2
    assert said in capsys.readouterr().err
