"""What counterfactual reading costs: branches against plain decoding, readout against re-encoding.

    python benchmarks/branches.py [--shape tiny|smollm2] [--repeats 5]

Both contestants of a pair run alternately in one process on the same rows, compilation
apart; weights are random (time does not depend on them) and no token stops a row. Prints
one JSON line; `ratio` fields are named after what they compare.

  branch_per_token / plain_per_token   the same number of rows, decoded for the same number of
                                       tokens; branches attend to a trajectory's cache besides
  reencode / scored                    the law after every step: every prefix read anew with each
                                       candidate, against candidates on the cache that is there
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from shapes import SHAPES

from gccpo_jax.counterfactual.answer_laws import latent_laws
from gccpo_jax.policy import model
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.branches import at_sites, continue_branches, fresh_tapes
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.sites import boundary
from gccpo_jax.types import AnswerField, Candidates, Prompts, Spans

SIZES = {  # prompt, response, group, steps, draws, branch tokens, candidates, answer tokens
    "tiny": dict(s=48, t=64, g=16, e=4, n=4, h=32, c=6, a=3),
    "smollm2": dict(s=64, t=64, g=4, e=4, n=2, h=16, c=6, a=4),
}
CUE = jnp.array([5, 6])
END = 0  # the token that ends an answer
RULE = Rule(1.0)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def alternately(repeats: int, *runs: Callable[[], object]) -> list[float]:
    """Median seconds of each, one after the other `repeats` times; the first round compiles."""
    for run in runs:
        seconds(run)
    times = [[seconds(run) for run in runs] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--shape", choices=SHAPES, default="tiny")
    options.add_argument("--repeats", type=int, default=5)
    asked = options.parse_args()
    arch, z = SHAPES[asked.shape], SIZES[asked.shape]
    policy = model.make_policy(arch)
    params = jax.jit(model.init, static_argnums=0)(arch, jax.random.key(0))
    random = np.random.default_rng(0)
    tokens = jnp.asarray(random.integers(1, arch.vocab_size, (1, z["s"])), jnp.int32)
    prompts = Prompts(tokens, jnp.ones(tokens.shape, bool), jnp.array([7], jnp.uint32))
    keys = noise.question_keys(jax.random.key(1), 0, prompts.ids)
    stop = jnp.zeros(arch.vocab_size, bool)
    draw = partial(sample, policy, params, prompts, keys, stop, rule=RULE)
    prompt, rollout = draw(group=z["g"], max_tokens=z["t"])

    rows = z["g"] * z["e"] * z["n"]
    ends = jnp.broadcast_to(jnp.arange(1, z["e"] + 1) * z["t"] // (z["e"] + 1), (z["g"], z["e"]))
    at = jax.vmap(jax.vmap(boundary, (None, None, None, 0, 0)), (None, None, 0, 0, 0))
    sites = at(tokens[0], jnp.int32(z["s"]), rollout.tokens[0], ends, jnp.ones(ends.shape, bool))
    sites = jax.tree.map(lambda x: x[None], sites)
    tapes = noise.keyed(fresh_tapes(keys, z["g"], z["n"]), arch.vocab_size)

    def plain() -> object:
        return draw(group=rows, max_tokens=z["h"])[1].tokens

    def branches() -> object:
        return continue_branches(
            policy, params, prompt, rollout.segment, sites, at_sites(tapes, z["e"]), stop,
            rule=RULE, max_tokens=z["h"], limit=10**6,
        ).tokens  # fmt: skip

    candidates = Candidates(
        jnp.asarray(random.integers(1, arch.vocab_size, (1, z["c"], z["a"] - 1)), jnp.int32),
        jnp.ones((1, z["c"], z["a"] - 1), bool),
        jnp.ones((1, z["c"]), bool),
        jnp.arange(z["c"])[None],
    )
    field = AnswerField((CUE,), jnp.arange(arch.vocab_size) == END)
    starts = jnp.concatenate([jnp.zeros((z["g"], 1), jnp.int32), ends[:, :-1]], axis=1)
    spans = jax.tree.map(lambda x: x[None], Spans(starts, ends, jnp.ones(ends.shape, bool)))

    def scored() -> object:
        return latent_laws(
            policy, params, prompt, rollout.segment, spans, keys, field, candidates,
            jnp.float32(0), arms=0,
        )[0]  # fmt: skip

    width = z["s"] + z["t"] + len(CUE) + z["a"] - 1

    @jax.jit
    def encode_all(params, tokens: jax.Array, ends: jax.Array, answers: jax.Array) -> jax.Array:
        """The same laws from nothing: prompt, prefix, cue and candidate in one text each."""

        def one(response: jax.Array, end: jax.Array, answer: jax.Array) -> jax.Array:
            text = jnp.zeros(width, jnp.int32).at[: z["s"]].set(prompts.tokens[0])
            text = text.at[z["s"] : z["s"] + z["t"]].set(response)
            after = z["s"] + end
            text = jax.lax.dynamic_update_slice(text, CUE, (after,))
            text = jax.lax.dynamic_update_slice(text, answer, (after + len(CUE),))
            mask = jnp.arange(width) < after + len(CUE) + z["a"] - 1
            hidden, _ = policy.encode(params, text, jnp.arange(width), mask, ())
            states = jax.lax.dynamic_slice_in_dim(hidden, after + len(CUE) - 1, z["a"])
            law = jax.nn.log_softmax(policy.logits(params, states))
            ended = jnp.append(answer, END)
            return jnp.take_along_axis(law, ended[:, None], axis=1).sum()

        of_candidates = jax.vmap(one, (None, None, 0))
        of_steps = jax.vmap(of_candidates, (None, 0, None))
        return jnp.exp(jax.lax.map(lambda x: of_steps(*x, answers), (tokens, ends)))

    def reencode() -> object:
        return encode_all(params, rollout.tokens[0], ends, candidates.tokens[0])

    gap = np.abs(np.asarray(reencode()) - np.asarray(scored())[0, :, :, :-1]).max()
    assert gap < 1e-4, f"the two readouts differ by {gap}"
    slow, fast = alternately(asked.repeats, plain, branches)
    naive, cached = alternately(asked.repeats, reencode, scored)
    print(
        json.dumps(
            {
                "shape": asked.shape,
                "device": jax.devices()[0].device_kind,
                "rows": rows,
                "branch_tokens": z["h"],
                "plain_tokens_per_second": round(rows * z["h"] / slow, 1),
                "branch_tokens_per_second": round(rows * z["h"] / fast, 1),
                "ratio_branch_per_token_to_plain_per_token": round(fast / slow, 3),
                "scored_seconds": round(cached, 4),
                "reencode_seconds": round(naive, 4),
                "ratio_reencode_to_scored": round(naive / cached, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
