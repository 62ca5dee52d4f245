"""What a GCCPO step costs beside a GRPO step at equal G, stage by stage, on one core.

    python benchmarks/step.py [--shape tiny|smollm2] [--draws 2] [--repeats 5] [--core 0]
                              [--naive 1] [--record] [--spare]

`tiny` is `configs/quickstart.py` as it is; `smollm2` is `configs/smollm2_gsm8k_cpu.py` on one
written word problem a step, 64 response tokens (needs the extra `smollm2`). Both with the default
budget, Phi at 2 boundaries x 2 draws and R by the scored readout of the arms that the config has;
GRPO is preset A0 of the same config. Every round runs both on the same questions, one after the
other; the first round compiles. Beside them in `--naive` rounds, on the same trajectories, the
naive way of the same readings: each branch and each candidate answer is a new prompt, encoded
from its first token (`step_naive.py`). With `--record` a third contestant is the same GCCPO step
that writes its record while it updates, as every `log.rollouts_every`th step of a run does. With
`--spare` another is the same step whose branches are decoded from where they leave their
trajectory (`counterfactual.from_departure`) and count by known chances (`known_rest`).

Prints one JSON line of medians: seconds by stage (the device goes on while the host starts the next
one: the branches are waited for in the readout), `rest` is what no stage holds; `branch_tokens`,
decoded for Phi, `departure_tokens`, read once more, and `se_D`, the standard error that the
branches' draws leave in a step's effect, so that precision per second and per token is seen;
`branch_tokens_at_equal_se_D` of the spared step as a share of the other's, had both the same;
`ratio_gccpo_over_grpo`, `ratio_naive_over_gccpo` and `ratio_naive_over_grpo` of whole steps,
`ratio_recorded_over_gccpo` and `ratio_spared_over_gccpo` likewise; `record_share` what the writing
thread computed as a share of its step, `record_share_of_a_run` that over all steps;
`compiled_in_timed_rounds` should be 0.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import statistics
import tempfile
import time

from contest import ONE_THREAD

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
FILES = {"tiny": CONFIGS / "quickstart.py", "smollm2": CONFIGS / "smollm2_gsm8k_cpu.py"}
COMPILED = "/jax/core/compile/backend_compile_duration"
WARM_UP = 1

QUESTION = (
    "{name} has {a} boxes with {b} {thing} each. {name} gives {c} {thing} to a friend and then "
    "buys {d} more. How many {thing} does {name} have now?"
)


def questions(file: pathlib.Path) -> None:
    """Writes word problems of several steps, as GSM8K has them."""
    rows = []
    for n in range(60):
        a, b, c, d = 2 + n % 7, 3 + n % 11, 1 + n % 5, 4 + n % 13
        name, thing = ("Ann", "Ben", "Zoe")[n % 3], ("apples", "pens", "coins", "cards")[n % 4]
        text = QUESTION.format(name=name, thing=thing, a=a, b=b, c=c, d=d)
        rows.append({"question": text, "answer": f"See.\n#### {a * b - c + d}"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def frozen(shape: str, preset: str, data: pathlib.Path, **counterfactual: int) -> object:
    """The config of a contestant, with fields of its section `counterfactual`."""
    from gccpo_jax.config import freeze

    spec = importlib.util.spec_from_file_location("base", FILES[shape])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(preset)
    config.counterfactual.update(counterfactual)
    if shape == "smollm2":
        questions(data)
        config.data.path = str(data)
        config.task.options.held_out = 10
        config.batch_size, config.data.max_prompt_tokens, config.sampling.max_tokens = 1, 128, 64
    return freeze(config)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=FILES, default="tiny")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--core", type=int, default=0)
    options.add_argument("--naive", type=int, default=1, help="rounds of the naive way; 0: none")
    options.add_argument("--record", action="store_true", help="also a step that is recorded")
    options.add_argument("--draws", type=int, default=2, help="N, branches from each boundary")
    options.add_argument("--spare", action="store_true", help="also a step with fewer tokens")
    asked = options.parse_args()
    os.environ.update(ONE_THREAD)
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # `compile_seconds` are of compiling
    os.sched_setaffinity(0, {asked.core})
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        line = measure(asked, pathlib.Path(directory) / "questions.jsonl")
    print(json.dumps(line))


def measure(asked: argparse.Namespace, data: pathlib.Path) -> dict[str, object]:
    """The line that is printed."""
    import jax
    import jax.numpy as jnp
    import step_naive

    from gccpo_jax.objective.update import make_update, optimizer_of, policy_loss_fn
    from gccpo_jax.runtime.timing import Stopwatch
    from gccpo_jax.sampling.questions import TrainBatches
    from gccpo_jax.training.session import open_session
    from gccpo_jax.types import TrainState

    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: compiled.append(seconds) if event == COMPILED else None
    )
    gccpo = {"boundaries": 2, "draws": asked.draws}
    config = frozen(asked.shape, "A7", data, **gccpo)
    configs = {"gccpo": config, "grpo": frozen(asked.shape, "A0", data)}
    if asked.spare:
        spared = {"from_departure": True, "known_rest": True}
        configs["spared"] = frozen(asked.shape, "A7", data, **gccpo, **spared)
    if asked.record:
        configs["recorded"] = config
    session, params = open_session(config)
    optimizer = optimizer_of(config.optim, config.steps)
    update = make_update(
        policy_loss_fn(config.objective, config.sampling, session.solver.policy),
        optimizer,
        micro_batch=config.optim.micro_batch or config.batch_size,
    )
    # Rollouts are the first policy's, whatever is learnt: all rounds cost alike.
    state = TrainState(
        jax.tree.map(jnp.copy, params), jax.jit(optimizer.init)(params), jnp.int32(0)
    )
    batches = TrainBatches(session.train, config.batch_size, config.seed)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in (*configs, "naive")}
    new, compile_seconds = 0, 0.0
    for step in range(WARM_UP + asked.repeats):
        items, prompts = next(batches)
        prompts = jax.tree.map(jnp.asarray, prompts)
        warm = len(compiled)
        compile_seconds = compile_seconds if step > WARM_UP else sum(compiled)
        for name in configs if step % 2 else reversed(configs):
            watch, start = Stopwatch(), time.perf_counter()
            record = data.parent if name == "recorded" else None
            given = (session.solver, configs[name], params, items, prompts, step, watch)
            state, metrics = one_step(*given, update, state, record)
            stages = watch.lap() | {"step_seconds": time.perf_counter() - start}
            times[name].append(stages | metrics)
        new += len(compiled) - warm if step >= WARM_UP else 0
        if 0 <= step - WARM_UP < asked.naive:  # twice on the same questions: the first compiles
            for _ in range(2):
                found = step_naive.read(
                    session.solver, config, params, items, prompts, step, Stopwatch()
                )
            times["naive"].append(found)
    line: dict[str, object] = {
        "shape": asked.shape,
        "device": jax.devices()[0].device_kind,
        "questions": config.batch_size,
        "group": config.group_size,
        "boundaries": config.counterfactual.boundaries,
        "draws": config.counterfactual.draws,
        "latent_arms": config.counterfactual.latent_arms,
        "surface_arms": config.counterfactual.surface_arms,
        "compile_seconds": round(compile_seconds, 1),
        "compiled_in_timed_rounds": new,
    }
    rows = {name: found if name == "naive" else found[WARM_UP:] for name, found in times.items()}
    return line | summary(rows, config.log.rollouts_every)


def one_step(solver, config, params, items, prompts, step, watch, update, state, record=None):
    """One step as `train.py` does it, without log and evaluation; `record`: where it is written."""
    from gccpo_jax.train import update_batch
    from gccpo_jax.training.experience import collect
    from gccpo_jax.training.rollout_files import write_rollouts

    found = collect(solver, config, params, items, prompts, step, watch)
    with watch("update"):
        state, metrics = update(state, update_batch(found, None, None))
        if record:
            start = time.thread_time()
            write_rollouts(record, step, found, solver, config)
            found.metrics["record"] = time.thread_time() - start
        float(metrics["loss"])
    if found.evidence and found.evidence.written:
        found.metrics["se_D"] = standard_error(found)
    wanted = ("length", "steps", "branch_tokens", "accuracy", "reader_gate", "R_defined")
    wanted += ("record", "se_D", "departure_tokens")
    return state, {name: found.metrics[name] for name in wanted if name in found.metrics}


def standard_error(found) -> float:
    """Root mean square over macro-steps of the standard error of D = Phi_k - Phi_{k-1}.

    Phi after a step is the mean of N draws, its variance s^2 / N with ddof 1; it is in two steps'
    effects. The outcome is exact, and the group's mean outcome counts as exact.
    """
    import numpy as np

    written = found.evidence.written  # [B, G, E, N], NaN where nothing was drawn
    score = written.score if written.counted is None else written.counted
    drawn = score[~np.isnan(score).any(-1)]
    variance = drawn.var(-1, ddof=1) / drawn.shape[-1]
    return float(np.sqrt(2 * variance.sum() / np.asarray(found.spans.mask).sum()))


def summary(times: dict[str, list[dict[str, float]]], every: int) -> dict[str, object]:
    """Medians of each contestant's rounds and the ratios of whole steps; `every`: of the record."""
    line: dict[str, object] = {}
    middle = {
        name: {k: statistics.median(row[k] for row in rows) for k in rows[0]}
        for name, rows in times.items()
        if rows
    }
    for name, row in middle.items():
        if name != "naive":
            stages = sum(v for k, v in row.items() if k.endswith("_seconds"))
            row["rest_seconds"] = 2 * row["step_seconds"] - stages
        line[name] = {k: round(v, 4) for k, v in row.items()}
    gccpo, grpo = (middle[name]["step_seconds"] for name in ("gccpo", "grpo"))
    line |= ratio(times, "gccpo", "grpo")
    if "recorded" in middle:
        line |= ratio(times, "recorded", "gccpo")
        share = statistics.median(row["record"] / row["step_seconds"] for row in times["recorded"])
        line["record_share"] = round(share, 4)
        line["record_share_of_a_run"] = round(share / every, 4)
    if "spared" in middle:
        line |= ratio(times, "spared", "gccpo")
        line["branch_tokens_at_equal_se_D"] = at_equal_se(middle["spared"], middle["gccpo"])
    if "naive" in middle:
        ours = sum(middle["gccpo"][k] for k in ("branches_seconds", "readout_seconds"))
        naive = gccpo - ours + sum(middle["naive"].values())
        line["ratio_naive_over_gccpo"] = round(naive / gccpo, 2)
        line["ratio_naive_over_grpo"] = round(naive / grpo, 2)
    return line


def at_equal_se(one: dict[str, float], other: dict[str, float]) -> float:
    """Decoded tokens as a share of another's, with draws for the same `se_D`: s^2 / N each."""
    draws = (one["se_D"] / other["se_D"]) ** 2 if other["se_D"] else 1.0
    return round(draws * one["branch_tokens"] / other["branch_tokens"], 3)


def ratio(times: dict[str, list[dict[str, float]]], one: str, other: str) -> dict[str, object]:
    """The median ratio of two contestants' whole steps, round by round, and its range."""
    pairs = zip(times[one], times[other], strict=True)
    each = [a["step_seconds"] / b["step_seconds"] for a, b in pairs]
    name = f"ratio_{one}_over_{other}"
    middle, low, high = statistics.median(each), min(each), max(each)
    return {name: round(middle, 3), f"{name}_range": [round(low, 3), round(high, 3)]}


if __name__ == "__main__":
    main()
