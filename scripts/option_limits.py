"""Every option of the config at its least and its greatest value: three steps of a tiny run.

    python scripts/option_limits.py [--together 12] [--rows FILE] [--out PAGE] [option ...]

Ranges are those of the config's own checks (`fields.field`); `GREATEST` says what is sensible
where more would only take more memory. An option with a few values is tried at each. Options that
are read under other values (`fields.only_if`) get those. A run passes if it makes its steps with
finite numbers, or is refused in one line; options share a run, and are tried alone where it does
not pass. `--rows` keeps results: what is in it is not tried again. `--out` writes the table between
the page's markers. Exit code: 1 if something else happened.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import operator
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax import train
from gccpo_jax.config import Config, default, freeze
from gccpo_jax.config.fields import build
from gccpo_jax.config.unread import unread
from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.training import session

BEGIN, END = "<!-- begin: scripts/option_limits.py -->", "<!-- end: scripts/option_limits.py -->"
LEFT_OUT = {
    "policy.init": "'scratch' is for sft",
    **{f"policy.scratch.{name}": "for sft" for name in ("layers", "width", "heads", "mlp")},
    "policy.scratch.kv_heads": "for sft",
    **{name: "a section of its own" for name in ("task.options", "data.template")},
}
"""Not tried, and why; nor are texts that are no choice: names, paths, the user's code, a day."""
BASE = {
    "steps": 3, "batch_size": 2, "group_size": 4, "data.max_prompt_tokens": 44,
    "sampling.max_tokens": 12, "eval.questions": 2, "eval.ood_questions": 0, "eval.batch": 2,
    "eval.max_prompt_tokens": 60, "checkpoint.every": 0, "log.rollouts_every": 0,
    "log.tensorboard": False, "counterfactual.min_gate": 0.0, "counterfactual.max_other": 1.0,
    "credit.kind": "outcome",
}  # fmt: skip
"""The tiny run: without steps, which take long to compile, where nothing needs them. The reader is
trusted whatever it says."""
STEPS = {"credit.kind": "gated_gae"}
FLOATS = (0.0, 2**-126, 1e-30, 0.4999, 1 - 2**-24, 0.9999, 1.0, 1 + 1e-6, 1e30)
HUGE = 2**31 - 1
GREATEST = {
    "steps": 4, "batch_size": 8, "group_size": 16, "data.max_prompt_tokens": 128,
    "sampling.max_tokens": 96, "sampling.slots": 7, "sampling.surface_groups": 4,
    "sampling.dynamic": 3, "segmentation.max_steps": 64, "counterfactual.boundaries": 64,
    "counterfactual.draws": 8, "counterfactual.transport_arms": 4,
    "counterfactual.max_candidates": 24, "counterfactual.max_answer_tokens": 12,
    "credit.ddof": 3, "credit.pass_k": 4, "credit.causal_budget": 4, "reward.overlong": 12,
    "reward.keep": 3, "optim.epochs": 4, "optim.micro_batch": 2, "eval.draws": 4,
    "eval.max_prompt_tokens": 128, "eval.max_tokens": 96, "log.profile": 1, "seed": 2**32 - 1,
    **{f"counterfactual.{name}_arms": 4 for name in
       ("latent", "surface", "equivalent", "corrupt", "swap", "equivariance")},
}  # fmt: skip
MEETS = {
    **{name: STEPS for name in ("credit.of_steps", "reads_steps", "cuts_steps", "counts_draws")},
    **{name: STEPS for name in ("reads_laws", "credit.gate", "counterfactual.latent_arms")},
    "objective.beta": {},
    **{name: {"credit.baseline": "zscore"} for name in ("divides_by_deviation", "adds_epsilon")},
    "counterfactual.swap_arms": {**STEPS, "counterfactual.swap_arms": 1},
    "eval.every": {"eval.every": 2},
    "log.rollouts_every": {"log.rollouts_every": 2},
    "reward.process": {"reward.process": "gccpo_jax.tasks.arithmetic:score"},
    "reward.verifier": {"reward.verifier": f"{pathlib.Path(__file__).stem}:always_right"},
}
"""Conditions that name no values: changes under which they hold."""
NEEDS = {
    ("credit.kind", "selective"): {"counterfactual.corrupt_arms": 1},
    ("credit.kind", "four_corner"): {"counterfactual.corrupt_arms": 1},
    ("credit.kind", "paper"): {"counterfactual.surface_arms": 0},
    ("credit.step_term", "selectivity"): {"counterfactual.corrupt_arms": 1},
    ("credit.gate_by", "equivariance"): {"counterfactual.equivariance_arms": 1},
    ("credit.gate_by", "step"): {"counterfactual.transport": "surface"},
    ("credit.pooled", True): {"credit.gate": False},
    ("objective.loss", "gspo"): {
        "objective.reduction": "seq_mean_token_mean",
        "credit.kind": "outcome",
    },
    ("objective.loss", "gspo_token"): {"objective.reduction": "seq_mean_token_mean"},
    ("objective.loss", "gvpo"): {"objective.beta": 0.0, "credit.kind": "outcome"},
    ("reward.process_use", "curate"): {
        "credit.kind": "outcome",
        "reward.keep": 3,
        "reward.process": "gccpo_jax.tasks.arithmetic:score",
    },
    ("optim.train_branches", True): STEPS,
    **{("counterfactual.transport", moved): STEPS for moved in ("surface", "number", "both")},
    ("log.profile", 1): {"steps": 4},
    ("objective.sampler_cap", 0.0): {"policy.compute": "bfloat16"},
    ("objective.sampler_cap", 1e30): {"policy.compute": "bfloat16"},
}
"""Values that need others."""


class Trial(NamedTuple):
    """An option at a value, and what it needs to be read."""

    path: str
    value: Any
    needs: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.path} = {self.value!r}"

    @property
    def changes(self) -> dict[str, Any]:
        return {**self.needs, self.path: self.value}


def always_right(question: str, response: str, answer: str) -> float:
    """A verifier of the user's."""
    return 1.0


def options(section: Any = None, path: str = "", above: tuple = ()) -> Iterator[tuple]:
    """(path, field, its conditions) of every option that is tried."""
    for field in dataclasses.fields(section or Config()):
        value, place = getattr(section or Config(), field.name), f"{path}{field.name}"
        conditions = (*above, *field.metadata.get("only_if", ()))
        if dataclasses.is_dataclass(value):
            yield from options(value, f"{place}.", conditions)
        elif place not in LEFT_OUT and not is_text(field):
            yield place, field, conditions


def is_text(field: dataclasses.Field) -> bool:
    """Whether any text may be its value."""
    return isinstance(field.default, str) and "choices" not in field.metadata


def values(path: str, field: dataclasses.Field) -> list[Any]:
    """The option's least and greatest value, or each of its few; the default is tried anyway."""
    return [x for x in _values(path, field) if x != field.default]


def _values(path: str, field: dataclasses.Field) -> list[Any]:
    if choices := field.metadata.get("choices"):
        return list(choices)
    if isinstance(field.default, bool):
        return [False, True]
    valid = field.metadata["valid"]
    if isinstance(field.default, int):
        return [next(n for n in range(-1, 9) if valid(n)), GREATEST.get(path, HUGE)]
    found = [x for x in FLOATS if valid(x)]
    return [min(found), max(found)]


def met(other: str) -> dict[str, Any]:
    """Changes under which a condition holds: of its row, or that number is not 0."""
    start = operator.attrgetter(other)(Config()) if other not in MEETS else 0
    return MEETS.get(other, {other: 0.5 if isinstance(start, float) else 2})


def trials() -> list[Trial]:
    """Every option at every value that is tried, with what it needs."""
    found = []
    for path, field, conditions in options():
        for value in values(path, field):
            needs: dict[str, Any] = {}
            for other, wanted in conditions:
                needs |= {other: wanted[0]} if wanted else met(other)
            for chosen in [*needs.items(), (path, value)]:
                needs |= {k: v for k, v in NEEDS.get(chosen, {}).items() if k != path}
            found.append(Trial(path, value, needs))
    return found


def groups(found: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Trials that can share a run: no option of one is needed or set by another.

    Numbers that are very small or large are apart if they are of one section: both may do the same.
    So are values that the config refuses together, and what needs steps from what does not.
    """
    left, packed = sorted(found, key=lambda t: (type(t.value).__name__, t.path)), []
    while left:
        group = [left.pop(0)]
        for trial in list(left):
            taken = {name: value for one in group for name, value in one.changes.items()}
            extreme = isinstance(trial.value, float)
            like = extreme and any(
                isinstance(t.value, float) and t.path.split(".")[0] == trial.path.split(".")[0]
                for t in group
            )
            clash = any(taken.get(k, v) != v for k, v in trial.changes.items()) or any(
                trial.path in one.changes for one in group
            )
            apart = trial.changes.get("credit.kind") != group[0].changes.get("credit.kind")
            if len(group) < size and not (like or clash or apart) and fits([*group, trial]):
                group.append(trial)
                left.remove(trial)
        packed.append(group)
    return packed


def fits(group: Sequence[Trial]) -> bool:
    """Whether the config takes the values of a group together."""
    changes: dict[str, Any] = {}
    for trial in group:
        changes |= trial.changes
    try:
        config_of(pathlib.Path("model"), changes)
    except UserError:
        return False
    return True


def config_of(model: pathlib.Path, changes: dict[str, Any]) -> Config:
    """The tiny run with changes of dotted fields, checked."""
    config = default()
    config.policy.path = str(model)
    config.task.options.update(train=40, id=6, ood=4, max_operations=3)
    for path, value in {**BASE, **changes}.items():
        section, _, name = path.rpartition(".")
        (operator.attrgetter(section)(config) if section else config)[name] = value
    for path, _, start, _ in unread(build(Config, config.to_dict(), "config")):
        if path in BASE and path not in changes:
            section, _, name = path.rpartition(".")
            config[section][name] = start
    return freeze(config)


def tiny_model(folder: pathlib.Path) -> pathlib.Path:
    """A random decoder of two layers with the tokenizer of the chain suite."""
    config = default()
    config.policy.init = "scratch"
    config.policy.scratch.update(layers=2, width=16, heads=2, kv_heads=2, mlp=16)
    config.task.options.update(train=8, id=4, ood=4)
    opened, params = session.open_session(freeze(config))
    weights.save(folder, opened.arch, params, opened.solver.tokenizer)
    return folder


def open_once(config: Config) -> Any:
    """`open_session`, once for all runs of equal sessions: their programs are compiled once.

    A random policy is never right, so half of its responses count as right.
    """
    parts = config.policy, config.task, config.data, config.mesh, config.reward, config.eval
    key = repr((*parts, config.sampling.max_tokens))
    if key not in _SESSIONS:
        found, params = session.open_session(config)
        if not config.reward.verifier:
            task = dataclasses.replace(found.solver.task, verify=lambda _, text: len(text) % 2)
            solver = dataclasses.replace(found.solver, task=task)
            found = dataclasses.replace(found, solver=solver)
        _SESSIONS[key] = found, params
    found, params = _SESSIONS[key]
    return found, jax.tree.map(jnp.copy, params)


_SESSIONS: dict[str, Any] = {}


def outcome(model: pathlib.Path, changes: dict[str, Any], scratch: pathlib.Path) -> str:
    """What a run with the changes does: "runs", "refused: <line>" or "WRONG: <why>"."""
    try:
        config = config_of(model, changes)
        with (
            tempfile.TemporaryDirectory(dir=scratch) as workdir,
            mock.patch.object(train, "open_session", open_once),
        ):
            place = pathlib.Path(workdir) / "run"
            train.train_and_evaluate(config, "limits", place)
            return _checked(config, place)
    except UserError as error:
        return f"refused: {error}"
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        return f"WRONG: {type(error).__name__}: {said}"


def _checked(config: Config, place: pathlib.Path) -> str:
    """Whether every step was made, and every number of a step that was not skipped is finite.

    An accuracy of nothing is none: where a deadline is too short for any response.
    """
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["step"]]
    if len(rows) != config.steps:
        return f"WRONG: {len(rows)} of {config.steps} steps"
    for row in rows:
        unscored = {k.removesuffix("_unscorable") for k, x in row.items() if x == 1.0}
        unscored |= {"accuracy"} if row["unscorable"] == 1.0 else set()
        lost = [k for k, x in row.items() if x is None or not math.isfinite(x)]
        lost = [k for k in lost if k not in unscored]
        if lost and not row["skipped"]:
            return f"WRONG: step {row['step']}: {', '.join(lost)} not finite"
    loaded = weights.load(place / "policy")[1]
    if not all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(loaded)):
        return "WRONG: the policy is not finite"
    skipped = sum(row["skipped"] > 0 for row in rows)
    return f"runs, updates of {skipped} steps skipped" if skipped else "runs"


def tried(
    group: list[Trial], model: pathlib.Path, scratch: pathlib.Path
) -> Iterator[dict[str, str]]:
    """What each of a group did; halves of it where the whole does not just run."""
    changes: dict[str, Any] = {}
    for trial in group:
        changes |= trial.changes
    found = outcome(model, changes, scratch)
    if len(group) == 1 or found == "runs":
        yield {trial.name: found for trial in group}
        return
    half = len(group) // 2
    yield from tried(group[:half], model, scratch)
    yield from tried(group[half:], model, scratch)


def table(rows: dict[str, str]) -> str:
    """The results in Markdown: a sentence on values that run, a row for each other."""
    other = {name: said for name, said in rows.items() if said != "runs"}
    lines = [f"{len(rows)} values of {len(list(options()))} options; all run but these:", ""]
    lines += ["| option | what happens |", "| --- | --- |"]
    lines += [f"| `{name}` | {said.replace('|', '/')} |" for name, said in sorted(other.items())]
    return "\n".join(lines)


def replaced(page: str, new: str) -> str:
    """The page with `new` between the markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"


def main() -> int:
    """Tries what was asked for; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("options", nargs="*", help="their paths, or how they begin; all")
    parser.add_argument("--together", type=int, default=12, help="options that share a run")
    parser.add_argument("--rows", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    rows = json.loads(given.rows.read_text()) if given.rows and given.rows.exists() else {}
    begins = tuple(given.options) or ("",)
    left = [t for t in trials() if t.path.startswith(begins) and t.name not in rows]
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        model = tiny_model(scratch / "model")
        alone = [[trial] for trial in left if not fits([trial])]  # refused at once
        others = [trial for trial in left if fits([trial])]
        shared = groups(others, given.together)
        quick = [group for group in shared if "credit.kind" not in group[0].needs]
        for group in [*alone, *quick, *[group for group in shared if group not in quick]]:
            for found in tried(group, model, scratch):
                rows |= found
                for name, said in found.items():
                    print(f"{name:45} {said}", flush=True)
                if given.rows:
                    given.rows.write_text(json.dumps(rows, indent=1))
    if given.out:
        page = given.out.read_text(encoding="utf-8")
        given.out.write_text(replaced(page, table(rows)), encoding="utf-8")
    wrong = [name for name, said in rows.items() if said.startswith("WRONG")]
    print(f"{len(rows)} values, {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
