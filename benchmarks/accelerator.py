"""The stages of a step on a GPU or TPU beside what its memory and matrix units reach.

    python benchmarks/accelerator.py [--shape qwen2_5_1_5b] [--questions 32] [--group 8]
        [--prompt 256] [--response 256] [--compute bfloat16] [--attention xla] [--micro-batch 1]
        [--remat] [--repeats 3] [--stages decode update readings] [--kernels] [--torch PYTHON]

Weights are random and float32, as they are trained, and rounded to `--compute` in use. The
command can be tried on a CPU with smaller shapes and sizes, better in float32.
Decoding is a run of `rollouts.sample` less one of a single token. Branches (2 boundaries x 2 draws
of half a response each) and the scored readout (2 latent arms) are the programs that the planner
knows, on inputs of full length; answers are as long as the config allows. The limits, a large
product in that dtype and a large copy, are measured between the runs. With `--torch` the
interpreter of an environment with PyTorch and transformers: `accelerator_torch.py` decodes and
updates the same rows on the same device, before ours (`torch_` in the line). Prints one JSON line:

  share_of_bandwidth  the least bytes that a token of all rows needs (every weight once, each
                      question's prompt once, half of each row's own tokens) per second, of those
                      that the copy reads and writes; `branches_` likewise, for a token of as many
                      branches as are decoded at a time, with what they went on from
  share_of_products   the products of that token with weights, of those of the large product
  mfu                 the least products that an update needs (prompts once per group, nothing
                      computed twice, attention left out) per second, of those of the large product;
                      `readout_` likewise, by the formulas of `planning/tokens.py`
  ratio_gccpo_over_grpo   sampling, branches, readout and update, over sampling and update

`--stages attention` compares one layer's attention of a group by XLA and, with `--attention cudnn`,
by cuDNN.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import gpu_kernels
import jax
import jax.numpy as jnp
import numpy as np
from shapes import SHAPES, filled, matmul_flops

from gccpo_jax.config import Config, default, freeze
from gccpo_jax.counterfactual.readers import branch_slots
from gccpo_jax.errors import UserError
from gccpo_jax.objective.update import make_optimizer, make_update, rl_loss
from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.attention import attend
from gccpo_jax.policy.fused_attention import attend_fused, check_fused
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.training.planning import stages
from gccpo_jax.training.planning.tokens import at_the_limits
from gccpo_jax.types import Params, Policy, Prompts, TrainState, UpdateBatch

RULE = Rule(1.0)


STEP = ("decode", "update", "readings")
"""Stages of a step; another is "attention", one layer's."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=SHAPES, default="qwen2_5_1_5b")
    sizes = dict(questions=32, group=8, prompt=256, response=256, repeats=3)
    for name, size in (sizes | {"micro-batch": 1}).items():
        options.add_argument(f"--{name}", type=int, default=size)
    options.add_argument("--compute", choices=("bfloat16", "float32"), default="bfloat16")
    options.add_argument("--attention", choices=("xla", "cudnn"), default="xla")
    options.add_argument("--remat", action="store_true", help="recompute layers when going back")
    options.add_argument("--stages", nargs="+", choices=STAGES, default=STEP)
    options.add_argument("--kernels", action="store_true", help="list the longest (GPU)")
    options.add_argument("--torch", metavar="PYTHON", help="with transformers: the peer runs first")
    options.add_argument("--torch-rows", type=int, default=8, help="sequences at a time")
    asked = options.parse_args()
    line = vars(asked).copy()
    if python := line.pop("torch"):  # before JAX takes the memory
        line |= peer(python, asked)
    if asked.shape == "qwen2_5_1_5b" and jax.default_backend() == "cpu":
        sys.exit("no GPU or TPU here: ask for --shape tiny or smollm2 to try the command")
    if asked.response < 2 or asked.questions % asked.micro_batch:
        sys.exit("--response: at least 2; --micro-batch: a divisor of --questions")
    line["device"] = jax.local_devices()[0].device_kind
    print(json.dumps(line | measure(asked)))


def measure(asked: argparse.Namespace) -> dict[str, object]:
    """What is found of the stages asked for."""
    arch = SHAPES[asked.shape]
    if asked.attention == "cudnn":
        try:
            check_fused(arch, asked.compute)
        except UserError as error:
            sys.exit(str(error))
    fused = asked.attention == "cudnn"
    policy = model.make_policy(arch, asked.remat, compute=asked.compute, fused=fused)
    found: dict[str, object] = {}
    for stage in asked.stages:
        found |= (new := STAGES[stage](asked, arch, policy))
        print(json.dumps(new), file=sys.stderr, flush=True)
    if set(STEP) <= set(asked.stages):
        grpo = found["sample_seconds"] + found["update_seconds"]
        more = found["branches_seconds"] + found["readout_seconds"]
        found["ratio_gccpo_over_grpo"] = 1 + more / grpo
    held = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return found | {"peak_gib": held / 2**30 or None}


def of_decoding(asked: argparse.Namespace, arch: Arch, policy: Policy) -> dict[str, object]:
    """Sampling, and one token of all rows beside the bytes that it has to read."""
    dtype = jnp.dtype(asked.compute)
    params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
    s = measured(asked, dtype, decoding(asked, arch, policy, params))
    token = (s["all"] - s["one"]) / (asked.response - 1)
    rows = asked.questions * asked.group
    kept = asked.questions * asked.prompt + rows * (asked.response + 1) / 2
    weights = matmul_flops(arch, 1, 1) / 2
    least = (weights + 2 * arch.depth * arch.kv_heads * arch.head_dim * kept) * dtype.itemsize
    return {
        "copy_gbs": s["copy_bytes"] / 1e9,
        "matmul_tflops": s["matmul_flops"] / 1e12,
        "sample_seconds": s["all"],
        "decode_milliseconds": 1e3 * token,
        "decode_tokens_per_second": rows / token,
        "share_of_bandwidth": least / token / s["copy_bytes"],
        "share_of_products": 2 * weights * rows / token / s["matmul_flops"],
    }


def of_update(asked: argparse.Namespace, arch: Arch, policy: Policy) -> dict[str, object]:
    """An update beside the products that it needs."""
    s = measured(asked, jnp.dtype(asked.compute), {"update": updating(asked, arch, policy)})
    tokens = asked.questions * asked.group * asked.response
    flops = 3 * matmul_flops(arch, asked.questions * asked.prompt + tokens, tokens)
    return {"update_seconds": s["update"], "mfu": flops / s["update"] / s["matmul_flops"]}


def of_readings(asked: argparse.Namespace, arch: Arch, policy: Policy) -> dict[str, object]:
    """Branches and readout."""
    config, dtype = step_config(asked), jnp.dtype(asked.compute)
    s = measured(asked, dtype, readings(config, arch))
    return {
        "branches_seconds": s["branches"],
        "branches_share_of_bandwidth": branch_bytes(config, arch, dtype)
        / s["branches"]
        / s["copy_bytes"],
        "readout_seconds": s["readout, latent"],
        "readout_mfu": readout_flops(config, arch) / s["readout, latent"] / s["matmul_flops"],
    }


def of_attention(asked: argparse.Namespace, arch: Arch, policy: Policy) -> dict[str, object]:
    """One layer's attention of a group, forward and backward, by XLA's blocks and by cuDNN."""
    size, rows, dtype = asked.response - 1, asked.group, jnp.dtype(asked.compute)

    def drawn(*shape: int) -> jax.Array:
        return jax.random.normal(jax.random.key(len(shape)), shape, dtype)

    heads, keys = (arch.heads, arch.head_dim), (arch.kv_heads, arch.head_dim)
    q, k = drawn(rows, size, *heads), drawn(rows, keys[0], size, keys[1])
    prompt, seen = drawn(keys[0], asked.prompt, keys[1]), jnp.ones(asked.prompt, bool)
    mask = jnp.arange(size)[None] < jnp.linspace(size // 2, size, rows, dtype=int)[:, None]

    def gradients(by: Callable[..., jax.Array]) -> Callable[[], object]:
        def loss(q: jax.Array, k: jax.Array, prompt: jax.Array) -> jax.Array:
            past = ((prompt, prompt, seen),)
            found = jax.vmap(lambda q, k, mask: by(q, k, k, mask, past))(q, k, mask)
            return jnp.sum(jnp.where(mask[..., None, None], found, 0).astype(jnp.float32) ** 2)

        run = jax.jit(jax.grad(loss, (0, 1, 2)))
        return lambda: run(q, k, prompt)

    runs = {"xla": gradients(attend)}
    if asked.attention == "cudnn":
        runs["cudnn"] = gradients(attend_fused)
    s = alternately(asked.repeats, runs)
    found = {f"attention_{name}_milliseconds": 1e3 * s[name] for name in runs}
    if "cudnn" in runs:
        pairs = zip(runs["cudnn"](), runs["xla"](), strict=True)
        far = lambda a, b: float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))  # noqa: E731
        wide = lambda x: x.astype(jnp.float32)  # noqa: E731
        found["attention_gradients_apart"] = max(far(wide(a), wide(b)) for a, b in pairs)
    return found


STAGES = {
    "decode": of_decoding,
    "update": of_update,
    "readings": of_readings,
    "attention": of_attention,
}


def measured(
    asked: argparse.Namespace, dtype: jnp.dtype, runs: dict[str, Callable[[], object]]
) -> dict[str, float]:
    """Seconds of each, by turns with the limits, which are per second: `matmul_flops` and
    `copy_bytes`. Lists the kernels of each, where asked for."""
    seconds = alternately(asked.repeats, limits(dtype) | runs)
    limit = {
        "matmul_flops": often() * 2 * side() ** 3 / seconds["matmul"],
        "copy_bytes": often() * COPIED / seconds["copy"],
    }
    for name, run in runs.items() if asked.kernels else ():
        print(gpu_kernels.table(name, run), file=sys.stderr, flush=True)
    return seconds | limit


def peer(python: str, asked: argparse.Namespace) -> dict[str, float]:
    """What `accelerator_torch.py` finds, in a process that ends before ours takes memory."""
    sizes = (asked.questions, asked.group, asked.prompt, asked.response)
    sizes = (*sizes, asked.torch_rows, asked.repeats)
    script = str(pathlib.Path(__file__).parent / "accelerator_torch.py")
    command = [python, script, asked.shape, *map(str, sizes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


COPIED = 2 * 2**30  # bytes read and written


def side() -> int:
    """Of the square matrices that are multiplied."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def often() -> int:
    """Times that each is done in one call, so that what calling costs does not count."""
    return 1 if jax.default_backend() == "cpu" else 16


def limits(dtype: jnp.dtype) -> dict[str, Callable[[], object]]:
    """Large products and large copies."""
    x = jax.random.normal(jax.random.key(0), (side(), side()), dtype)  # ones may be faster
    x = x / side() ** 0.5
    y = jnp.ones(COPIED // 8, jnp.float32)
    product = jax.jit(lambda x: jax.lax.fori_loop(0, often(), lambda _, y: y @ x, x))
    copy = jax.jit(lambda x: jax.lax.fori_loop(0, often(), lambda _, y: y + 1, x))
    return {"matmul": lambda: product(x), "copy": lambda: copy(y)}


def decoding(
    asked: argparse.Namespace, arch: Arch, policy: Policy, params: Params
) -> dict[str, Callable[[], object]]:
    """Rollouts of full length, and of one token."""
    prompts = prompts_of(asked, arch)
    keys = noise.question_keys(jax.random.key(1), 0, prompts.ids)
    never = jnp.zeros(arch.vocab_size, bool)

    def run(tokens: int) -> Callable[[], object]:
        size = dict(group=asked.group, rule=RULE, max_tokens=tokens)
        return lambda: sample(policy, params, prompts, keys, never, **size)[1].length

    return {"all": run(asked.response), "one": run(1)}


def updating(asked: argparse.Namespace, arch: Arch, policy: Policy) -> Callable[[], object]:
    """One AdamW step of the clipped objective after another; the state is donated."""
    params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
    optimizer = make_optimizer(lr=1e-6, steps=1000)
    loss = rl_loss(policy, rule=RULE, max_tokens=asked.response)
    update = make_update(loss, optimizer, micro_batch=asked.micro_batch)
    prompts, rows = prompts_of(asked, arch), (asked.questions, asked.group, asked.response)
    random = np.random.default_rng(0)
    batch = UpdateBatch(
        prompt=prompts.tokens,
        prompt_mask=prompts.mask,
        tokens=jnp.asarray(random.integers(1, arch.vocab_size, rows), jnp.int32),
        mask=jnp.ones(rows, bool),
        behaviour_logp=jnp.full(rows, -np.log(arch.vocab_size), jnp.float32),
        reference_logp=jnp.zeros(rows, jnp.float32),
        advantage=jnp.asarray(random.normal(size=rows), jnp.float32),
    )
    state = TrainState(params, jax.jit(optimizer.init)(params), jnp.int32(0))

    def run() -> object:
        nonlocal state
        state, metrics = update(state, batch)
        assert not float(metrics["skipped"]), "the update is not finite"
        return metrics

    return run


def step_config(asked: argparse.Namespace) -> Config:
    """The default arms of a GCCPO step with the sizes asked for."""
    config = default()
    config.batch_size, config.group_size = asked.questions, asked.group
    config.data.max_prompt_tokens, config.sampling.max_tokens = asked.prompt, asked.response
    config.optim.micro_batch, config.policy.remat = asked.micro_batch, asked.remat
    config.policy.compute = asked.compute
    config.counterfactual.boundaries = config.counterfactual.draws = 2
    config.counterfactual.latent_arms, config.counterfactual.surface_arms = 2, 0
    config.counterfactual.branch_tokens = asked.response // 2
    return freeze(config)


def readings(config: Config, arch: Arch) -> dict[str, Callable[[], object]]:
    """Branches and readout of full length."""
    programs = stages.of_step(stages.share_of(config, arch))

    def run(stage: stages.Stage) -> Callable[[], object]:
        program = jax.jit(stage.run)
        inputs = filled(stage.arguments, arch.vocab_size, config.sampling.max_tokens)
        return lambda: program(*inputs)

    return {name: run(programs[name]) for name in ("branches", "readout, latent")}


def branch_bytes(config: Config, arch: Arch, dtype: jnp.dtype) -> float:
    """The least that all branches read: weights once per token of those decoded at a time."""
    c, rollouts = config.counterfactual, config.batch_size * config.group_size
    count, each = rollouts * c.boundaries * c.draws, c.branch_tokens
    slots = branch_slots(rollouts, c.boundaries * c.draws, 1) or count
    kept = config.batch_size * config.data.max_prompt_tokens
    kept += slots * (config.sampling.max_tokens + each) / 2
    cache = 2 * arch.depth * arch.kv_heads * arch.head_dim * kept
    return count * each / slots * (matmul_flops(arch, 1, 1) / 2 + cache) * dtype.itemsize


def readout_flops(config: Config, arch: Arch) -> float:
    """Products of the factual laws and the latent arms, with attention."""
    found = at_the_limits(config, arch)
    rows = [row.flops for row in found.rows[1:] if not row.decoded]
    return sum(rows) * found.trajectories


def prompts_of(asked: argparse.Namespace, arch: Arch) -> Prompts:
    """Random prompts of full length."""
    size = (asked.questions, asked.prompt)
    tokens = np.random.default_rng(0).integers(1, arch.vocab_size, size)
    ids = jnp.arange(asked.questions, dtype=jnp.uint32)
    return Prompts(jnp.asarray(tokens, jnp.int32), jnp.ones(size, bool), ids)


def alternately(repeats: int, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, by turns; the first round compiles and does not count."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


if __name__ == "__main__":
    main()
