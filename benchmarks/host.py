"""What the host does in a step of 4,096 rollouts: seconds of each part, without a model.

    python benchmarks/host.py [--config configs/quickstart.py] [--data FILE] [--questions 512]
        [--group 8] [--mean 150] [--repeats 3] [--seconds N]

Responses are worked solutions of the config's task, whose steps come again until a drawn length
is full (exponential beyond the solution, `--mean` tokens on average); the answer at the end is
right in 6 of 10, wrong in 3 and left out in 1. Each is continued from two boundaries, twice, by
the rest of another response. Laws and credits are random numbers. The functions are those that
training calls. One line of JSON: median CPU seconds of each part, microseconds per rollout of all
of them, and with `--seconds` the share of a step that takes so long.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage.credit import Credit
from gccpo_jax.config import Config, freeze
from gccpo_jax.counterfactual import gate, readers
from gccpo_jax.counterfactual.candidates import answer_starts, candidates_of
from gccpo_jax.counterfactual.places import Places, find_all_steps
from gccpo_jax.counterfactual.read import Evidence
from gccpo_jax.counterfactual.rewritten import rewritten
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.policy.tokenizer import Tokenizer, load_tokenizer
from gccpo_jax.reward.arms import Arms, Family
from gccpo_jax.reward.group import GroupReading
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.sampling import outcomes
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.sampling.sites import Sites
from gccpo_jax.sampling.solver import Solver, make_solver
from gccpo_jax.sampling.traces import Seen, Traces
from gccpo_jax.steps import merge_steps
from gccpo_jax.tasks.base import Item, Task
from gccpo_jax.training.experience import Experience
from gccpo_jax.training.metrics import checker_metrics, credit_metrics, sampling_metrics
from gccpo_jax.training.rollout_files import write_rollouts
from gccpo_jax.training.session import open_task
from gccpo_jax.types import Policy, Prompts, Rollout, Spans

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "quickstart.py"
BOUNDARIES, DRAWS, MOST_STEPS = 2, 2, 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--config", default=str(CONFIG))
    options.add_argument("--data", default="", help="file of questions, for tasks that read one")
    options.add_argument("--questions", type=int, default=512)
    options.add_argument("--group", type=int, default=8)
    options.add_argument("--mean", type=int, default=150, help="tokens of a response")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--seconds", type=float, default=0.0, help="of a step, for the share")
    asked = options.parse_args()
    print(json.dumps(measure(asked)))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """The line that is printed."""
    given = load_config(asked.config)[0]
    given.data.path = asked.data or given.data.path
    config = freeze(given)
    tokenizer = load_tokenizer(config.policy.path)
    task = open_task(config)
    policy = Policy(None, None, tokenizer.vocab_size)
    solver = make_solver(policy, task, tokenizer)
    traces = simulated(solver, asked.questions, asked.group, asked.mean)
    rollouts = traces.lengths.size
    seconds = {name: timed(run, asked.repeats) for name, run in parts(solver, traces, config)}
    total = sum(seconds.values())
    line = {
        "rollouts": rollouts,
        "tokens": float(traces.lengths.mean()),
        "longest": int(traces.lengths.max()),
        "seconds": {name: round(s, 4) for name, s in seconds.items()},
        "all": round(total, 3),
        "microseconds_per_rollout": round(1e6 * total / rollouts, 1),
    }
    return line | ({"share": round(total / asked.seconds, 4)} if asked.seconds else {})


def timed(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of CPU time, so that other work does not count; nor does a first call."""
    found = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return statistics.median(found[1:])


def parts(solver: Solver, traces: Traces, config: Config) -> list[tuple[str, Callable[[], object]]]:
    """What is timed, in the order in which a step does it."""
    task, tokenizer, items = solver.task, solver.tokenizer, traces.items
    seen = Seen(solver, None, traces)
    steps, spans = cut(solver, traces)
    starts = answer_starts(task, tokenizer, traces.tokens, traces.lengths, traces.texts)
    places = Places(steps, spans, starts)
    section = config.counterfactual
    how = {"count": section.max_candidates, "max_tokens": section.max_answer_tokens}
    candidates, answers = candidates_of(task, tokenizer, items, traces.texts, **how)
    sites, branches = went_on(traces, spans)
    golds = [[item.answer or ""] for item in items]
    _, scores = readers._endings(solver, traces, golds, 1, sites, branches)
    written = readers.Written(branches, scores)
    experience = credited(traces, spans, places, answers, written, section.max_candidates)
    reading, credit = experience.reading, experience.credit
    folder = tempfile.TemporaryDirectory()

    def metrics() -> None:
        sampling_metrics(traces)
        credit_metrics(credit, spans, reading)

    def rollout_files() -> None:
        write_rollouts(pathlib.Path(folder.name), 1, experience, solver, config)

    def gate_of_reader() -> None:
        gate.reader_metrics(task, traces, spans, reading.factual, candidates, answers)

    tokens, lengths, texts = traces.tokens, traces.lengths, traces.texts
    found = [
        ("texts", lambda: outcomes.decode_all(tokenizer, tokens, lengths)),
        ("verification", lambda: outcomes.outcomes(task, items, texts)),
        ("checker", lambda: checker_metrics(task, items, texts, traces.outcome)),
        ("answer fields", lambda: answer_starts(task, tokenizer, tokens, lengths, texts)),
        ("candidates", lambda: candidates_of(task, tokenizer, items, texts, **how)),
        ("in other words", lambda: rewritten(seen, places, ["surface"], 1)),
        ("branches", lambda: readers._endings(solver, traces, golds, 1, sites, branches)),
        ("reader's gate", gate_of_reader),
        ("metrics", metrics),
        (f"rollout files ({config.log.rollouts} questions)", rollout_files),
    ]
    return [(name, run) for name, run in found if name != "in other words" or task.surface]


def simulated(solver: Solver, questions: int, group: int, mean: int) -> Traces:
    """Responses with a mean length of about `mean` tokens, verified; no cache, no law."""
    task, tokenizer, rng = solver.task, solver.tokenizer, np.random.default_rng(0)
    train = task.splits["train"]
    items = [train[n % len(train)] for n in range(questions)]
    rows = [[response(task, tokenizer, item, rng, mean) for _ in range(group)] for item in items]
    lengths = np.array([[len(ids) for ids in of_group] for of_group in rows])
    tokens = np.zeros((questions, group, lengths.max()), np.int32)
    for b, g in np.ndindex(*lengths.shape):
        tokens[b, g, : lengths[b, g]] = rows[b][g]
    texts = outcomes.decode_all(tokenizer, tokens, lengths)
    rendered = [tokenizer.render(task.prompt(item), task.system, task.chat) for item in items]
    prompts = np.zeros((questions, max(map(len, rendered)) + 16), np.int32)
    mask = np.arange(prompts.shape[1]) < np.array([[len(ids)] for ids in rendered])
    for row, ids in zip(prompts, rendered, strict=True):
        row[: len(ids)] = ids
    some = jnp.asarray(rng.random(tokens.shape), jnp.float32)
    inside = jnp.arange(tokens.shape[-1]) < lengths[..., None]
    rollout = Rollout(
        jnp.asarray(tokens),
        jnp.where(inside, -some, 0),
        jnp.where(inside, some, 0),
        jnp.asarray(lengths),
        jnp.ones(lengths.shape, bool),
        None,
    )
    return Traces(
        items=items,
        prompts=Prompts(prompts, mask, np.arange(questions)),
        seed=(0, 1),
        keys=jax.random.split(jax.random.key(0), questions),
        prompt=None,
        rollout=rollout,
        tokens=tokens,
        lengths=lengths,
        texts=texts,
        outcome=outcomes.outcomes(task, items, texts),
        rule=Rule(),
        limit=2 * tokens.shape[-1],
        keyed=True,
    )


def response(
    task: Task, tokenizer: Tokenizer, item: Item, rng: np.random.Generator, mean: int
) -> list[int]:
    """The solution's steps again and again up to a drawn length, then an answer or none."""
    steps, _, _ = item.solution.rpartition("\n")
    answer = item.answer if (draw := rng.random()) < 0.6 else str(rng.integers(10))
    own = tokenizer.encode(steps + "\n")
    end = tokenizer.encode(task.cues[0].lstrip("\n") + answer) if draw < 0.9 else []
    size = min(rng.exponential(mean), 8 * mean)
    body = own * max(1, round((size - len(end) - 1) / len(own)))
    return [*body, *end, tokenizer.eos_id]


def cut(solver: Solver, traces: Traces) -> tuple[Spans, Spans]:
    """Steps, and macro-steps that end at two boundaries and at the end."""
    sizes = {"max_steps": MOST_STEPS, "min_tokens": 1, "max_tokens": 0}
    rollout = traces.rollout
    steps = find_all_steps(solver.boundary, rollout.tokens, rollout.length, **sizes)
    count = steps.mask.sum(-1, keepdims=True)
    at = jnp.arange(MOST_STEPS)
    kept = (at == count // 3) | (at == 2 * count // 3) | (at == count - 1)
    merge = jax.vmap(jax.vmap(lambda spans, kept: merge_steps(spans, kept, BOUNDARIES + 1)))
    return steps, merge(steps, kept & steps.mask)


def went_on(traces: Traces, spans: Spans) -> tuple[Sites, Branches]:
    """Branches from each boundary: the rest of the next trajectories of the group."""
    ends = np.asarray(spans.end[..., :-1])
    exists = np.asarray(spans.mask[..., 1:])
    batch, group, count = ends.shape
    tokens = np.zeros((batch, group, count, DRAWS, traces.tokens.shape[-1]), np.int32)
    lengths = np.zeros(tokens.shape[:-1], np.int32)
    for b, g, e in np.argwhere(exists):
        for n in range(DRAWS):
            other = (g + 1 + n) % group
            rest = traces.tokens[b, other, min(ends[b, g, e], ends[b, other, e]) :]
            rest = rest[: traces.lengths[b, other] - min(ends[b, g, e], ends[b, other, e])]
            tokens[b, g, e, n, : len(rest)], lengths[b, g, e, n] = rest, len(rest)
    last = np.take_along_axis(traces.tokens, np.maximum(ends - 1, 0), -1)
    one = np.ones(ends.shape, np.int32)
    sites = Sites(np.maximum(ends - 1, 0), last[..., None], one, ends, exists)
    return sites, Branches(tokens, np.zeros(tokens.shape, np.float32), lengths)


def credited(
    traces: Traces,
    spans: Spans,
    places: Places,
    answers: list[list[str]],
    written: readers.Written,
    candidates: int,
) -> Experience:
    """An experience with random laws and credit."""
    rng, shape = np.random.default_rng(1), spans.mask.shape
    some = jnp.asarray(rng.random(shape), jnp.float32)
    laws = jnp.asarray(rng.dirichlet(np.ones(candidates + 1), shape), jnp.float32)
    per_token = jnp.asarray(rng.random(traces.tokens.shape), jnp.float32)
    arms = lambda family: Arms(laws[..., None, :], spans.mask[..., None], family)  # noqa: E731
    fields = {field.name: some for field in dataclasses.fields(Credit)}
    for name in ("defined", "content_defined", "selective_defined", "readable"):
        fields[name] = spans.mask
    outcome = jnp.asarray(np.nan_to_num(traces.outcome))
    reading = GroupReading(
        outcome=outcome,
        scorable=jnp.asarray(traces.scorable),
        value=some,
        factual=laws,
        nuisance=arms(Family.NUISANCE),
        content=arms(Family.CONTENT),
        energy=some,
        equivariance=some[..., 0],
    )
    return Experience(
        items=traces.items,
        prompts=traces.prompts,
        rollout=traces.rollout,
        texts=traces.texts,
        outcome=traces.outcome,
        reward=outcome,
        advantage=per_token,
        trained=None,
        spans=spans,
        credit=Credit(**fields | {"advantage": per_token}),
        reading=reading,
        evidence=Evidence(places.read_spans, answers, None, {}, written),
        metrics={},
    )


if __name__ == "__main__":
    main()
