"""Phi foretold by a step scorer and corrected: same mean of D, for which share of the branches?

    python benchmarks/learned_values.py --scorer runs/prm [--share 0.25] [--questions 128]

The same solutions of the tiny policy on the chain suite, read twice by `value="continued"` and by
"learned". Prints a Markdown table: mean D of sound and of flawed steps by either, their paired
difference with a 95 % interval by resampling questions, and the tokens of the branches.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from gccpo_jax.analysis.library import prompts_of
from gccpo_jax.analysis.settings import Settings
from gccpo_jax.analysis.suites.run import SUITE
from gccpo_jax.analysis.suites.tables import table
from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.counterfactual.learned import coins, foretold, learned_values
from gccpo_jax.counterfactual.places import Places, cut_steps, starts_of
from gccpo_jax.counterfactual.read import begin_values
from gccpo_jax.policy.step_scorer import open_scorer
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.runtime.distributed import to_host
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.outcomes import step_texts
from gccpo_jax.sampling.traces import Seen, sample_traces
from gccpo_jax.statistics.bootstrap import bootstrap, codes, ratio
from gccpo_jax.tasks.chain.suite import ChainConfig, chain

GROUP, BATCH = 8, 32


def read(model, scorer, items, settings, share):
    """Rows (question, flawed, D in full, D foretold) of every step, and both counts of tokens."""
    solver, section = model.solver, settings.counterfactual
    given = dict(group=GROUP, rule=Rule(), max_tokens=settings.max_tokens, seed=(0, 0))
    prompts = prompts_of(solver, items, 0)
    traces = sample_traces(solver, model.params, items, prompts, watch=Stopwatch(), **given)
    seen, spans = (
        Seen(solver, model.params, traces),
        cut_steps(solver, traces, settings.segmentation),
    )
    mask = to_host(spans.mask)
    drawn = coins(traces.keys, GROUP, mask.shape[-1] - 1, share)
    full = begin_values(seen, spans, section)()
    part = begin_values(seen, spans, section, drawn)()
    places = Places(spans, spans, starts_of(seen))
    told = learned_values(scorer, solver.tokenizer, traces, places)
    value, error = foretold(told, part.value, drawn, share)
    start, end = to_host(spans.start), to_host(spans.end)
    rows = []
    for b, g in np.argwhere(mask.any(-1)):
        count = int(mask[b, g].sum())
        ends = start[b, g, :count], end[b, g, :count]
        texts = step_texts(solver.tokenizer, traces.tokens[b, g], *ends)
        labels = solver.task.check(items[b], texts)
        before, outcome = traces.outcome[b].mean(), traces.outcome[b, g]
        gains = [np.diff([before, *phi[b, g, : count - 1], outcome]) for phi in (full.value, value)]
        for label, d, e in zip(labels, *gains, strict=True):
            rows.append((items[b].id, label in solver.task.flaws, d, e))
    return rows, np.array([full.tokens, part.tokens]), error


def mean(x, question):
    """`x` averaged, with a 95 % interval over questions."""
    questions, code = codes(question)
    total, size = np.bincount(code, x, questions), np.bincount(code, minlength=questions)
    found = bootstrap(ratio(total, size.astype(float)), questions)
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorer", required=True)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--questions", type=int, default=128)
    a = parser.parse_args()
    items = chain(ChainConfig(**SUITE)).splits["id"][: a.questions]
    model, scorer = open_model("tiny", "chain"), open_scorer(a.scorer)
    section = CounterfactualConfig(draws=4)
    settings = dataclasses.replace(Settings(), max_tokens=48, counterfactual=section)
    rows, tokens, errors = [], np.zeros(2), []
    for first in range(0, len(items), BATCH):
        part, used, error = read(model, scorer, items[first : first + BATCH], settings, a.share)
        rows, tokens, errors = rows + part, tokens + used, [*errors, error]
    question, flawed, full, less = (np.array(x) for x in zip(*rows, strict=True))
    kinds = {"all": flawed >= 0, "sound": ~flawed, "flawed": flawed}
    lines = [
        [name, str(keep.sum()), *(mean(x[keep], question[keep]) for x in (full, less, less - full))]
        for name, keep in kinds.items()
    ]
    print(table(["steps", "how many", "mean D, continued", "learned", "difference"], lines))
    print(f"\nbranch tokens {tokens[0]:.0f} and {tokens[1]:.0f} ({tokens[1] / tokens[0]:.0%})")
    print(f"squared error of the scorer {np.mean(errors):.3f}")


if __name__ == "__main__":
    main()
