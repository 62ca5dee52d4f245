"""Where draws are needed: what rules for it would save, at the same standard error of D.

    python benchmarks/draws.py [--config configs/quickstart.py] [--steps 3] [--draws 16]

The config's policy writes the groups of some steps and goes on from each boundary many times; so a
boundary's variance v and a branch's length h are known. Prints one JSON line of shares of the
decoded tokens of N draws at every boundary, for the same sum of v / N: `departure`, the same
branches from where they leave their trajectory; `known_rest`, N as many as the estimate with known
chances needs; and N in proportion to what is known before a branch is drawn, from 1 to 4 times the
mean of 2: the root of 1 / h (`cost`), of p (1 - p) of the group's other outcomes (`group`), of
their quotient (`group_cost`); of v averaged over the boundaries with the same group, outcome, place
and (`neighbour`) outcomes of two branches of the other boundary, fitted on these very boundaries
and so too good (`fitted`); of v itself, which nobody knows (`oracle`, `oracle_cost`).
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.config import freeze
from gccpo_jax.counterfactual.places import places_of
from gccpo_jax.counterfactual.read import begin_values
from gccpo_jax.policy.token_law import behaviour_rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.sampling.traces import Seen, sample_traces
from gccpo_jax.training.session import open_session

LEAST, MEAN, MOST = 1, 2, 8
"""Draws of a boundary."""


@dataclasses.dataclass(frozen=True)
class Read:
    """Boundaries [B, G, K'] of some groups, read by many branches."""

    exists: np.ndarray
    variance: np.ndarray  # v
    counted: np.ndarray  # the same with known chances
    length: np.ndarray  # h
    two: np.ndarray  # right ones of the first two branches
    outcome: np.ndarray  # [B, G]
    tokens: float  # of all branches
    departed: float  # of them, decoded from their departures


def read(config, session, params, items, prompts, step, draws) -> Read:
    """Samples a batch and goes on from its boundaries."""
    traces = sample_traces(
        session.solver, params, items, jax.tree.map(jnp.asarray, prompts),
        group=config.group_size, rule=behaviour_rule(config.sampling),
        max_tokens=config.sampling.max_tokens, seed=(config.seed, step), watch=Stopwatch(),
    )  # fmt: skip
    seen, f = Seen(session.solver, params, traces), config.counterfactual
    spans = places_of(seen, config.segmentation, f.boundaries, f.boundary_share).spans
    asked = dataclasses.replace(f, transport="none", value="continued", draws=draws)
    known = dataclasses.replace(asked, known_rest=True)
    departed = dataclasses.replace(asked, from_departure=True)
    found = begin_values(seen, spans, known)()
    written, lengths = found.written, to_host(found.written.branches.length)
    exists = lengths[..., 0] > 0

    def spread(x: np.ndarray) -> np.ndarray:
        return np.where(exists, np.nan_to_num(x).var(-1, ddof=1), 0.0)

    return Read(
        exists=exists,
        variance=spread(written.score),
        counted=spread(written.counted),
        length=lengths.mean(-1),
        two=np.nan_to_num(written.score[..., :2]).sum(-1),
        outcome=np.nan_to_num(traces.outcome),
        tokens=found.tokens,
        departed=begin_values(seen, spans, departed)().tokens,
    )


def share(r: Read, weight: np.ndarray) -> float:
    """Tokens of N in proportion to `weight` beside those of `MEAN` each, at equal sums v / N."""
    v, h, w = (np.maximum(x[r.exists], 1e-9) for x in (r.variance, r.length, weight))
    wanted, low, high = v.sum() / MEAN, 1e-6, 1e6
    for _ in range(100):  # the factor by halves: more draws, less variance
        factor = np.sqrt(low * high)
        count = np.clip(factor * w, LEAST, MOST)
        low, high = (factor, high) if (v / count).sum() > wanted else (low, factor)
    return float((count * h).sum() / (MEAN * h).sum())


def fitted(r: Read, *features: np.ndarray) -> np.ndarray:
    """The root of v's mean over the boundaries that are alike in all features."""
    rows = np.stack([np.broadcast_to(x, r.variance.shape) for x in features], -1)
    cell = np.unique(rows.reshape(-1, len(features)), axis=0, return_inverse=True)[1].reshape(-1)
    total = np.bincount(cell, (r.variance * r.exists).ravel())
    mean = total / np.maximum(np.bincount(cell, r.exists.ravel()), 1)
    return np.sqrt(np.maximum(mean, 1e-3))[cell].reshape(r.variance.shape)


def shares(r: Read) -> dict[str, float]:
    """The shares that are printed."""
    size = r.outcome.shape[1]
    others = r.outcome.sum(1, keepdims=True) - r.outcome
    p = ((others + 0.5) / size)[..., None]
    group = np.broadcast_to(np.sqrt(p * (1 - p)), r.variance.shape)
    root = np.sqrt(np.maximum(r.length, 1))
    place = np.arange(r.variance.shape[-1])
    features = others[..., None], r.outcome[..., None], place
    neighbour = np.where(np.roll(r.exists, 1, -1), np.roll(r.two, 1, -1), -1)
    oracle = np.sqrt(np.maximum(r.variance, 1e-3))
    weights = {
        "cost": 1 / root, "group": group, "group_cost": group / root,
        "fitted": fitted(r, *features), "fitted_cost": fitted(r, *features) / root,
        "neighbour": fitted(r, *features, neighbour), "oracle": oracle,
        "oracle_cost": oracle / root,
    }  # fmt: skip
    known = float(r.counted.sum() / r.variance.sum())
    first = {"departure": r.departed / r.tokens, "known_rest": known}
    return first | {name: share(r, weight) for name, weight in weights.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--config", type=pathlib.Path, default="configs/quickstart.py")
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--draws", type=int, default=16)
    asked = options.parse_args()
    spec = importlib.util.spec_from_file_location("base", asked.config)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = freeze(module.get_config())
    session, params = open_session(config)
    batches = TrainBatches(session.train, config.batch_size, config.seed)
    given = (config, session, params)
    rows = [read(*given, *next(batches), step, asked.draws) for step in range(asked.steps)]
    join = {f.name: [getattr(row, f.name) for row in rows] for f in dataclasses.fields(Read)}
    totals = ("tokens", "departed")
    r = Read(**{k: sum(v) if k in totals else np.concatenate(v) for k, v in join.items()})
    print(json.dumps({"boundaries": int(r.exists.sum()), "draws": asked.draws} | {
        name: round(x, 3) for name, x in shares(r).items()
    }))  # fmt: skip


if __name__ == "__main__":
    main()
