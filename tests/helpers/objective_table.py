"""Every advantage, reward, curation, penalty, weight and loss as a function of one example group.

`ROWS` give a row of numbers a trajectory, `LOSSES` one number; `SMOOTH` are the losses
without a stop-gradient that the value would not show.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gccpo_jax.advantage import baselines, paper, shaping
from gccpo_jax.advantage import process_supervision as process
from gccpo_jax.config.sections import REDUCTIONS
from gccpo_jax.objective import losses, ratios

G, E, T, D = 5, 3, 6, 7
UNSCORABLE = 2
STEPS = np.array([3, 1, 2, 2, 3])  # of each row
TOKENS = np.array([6, 2, 4, 3, 5])


def example(seed=0):
    """A ragged group; what does not count is NaN."""
    random = np.random.default_rng(seed)
    where = np.arange(G) != UNSCORABLE
    inside = (np.arange(T) < TOKENS[:, None]) & where[:, None]
    steps = (np.arange(E) < STEPS[:, None]) & where[:, None]
    step = np.where(inside, np.minimum(np.arange(T), STEPS[:, None] - 1), E)
    logp = -random.uniform(0.2, 2, (G, T))
    numbers = {
        "reward": np.where(where, [1.0, 0, 1, 0, 1], np.nan),
        "latent": random.normal(size=(3, G, D)).swapaxes(0, 1) + 0 * where[:, None, None],
        "value": np.concatenate([random.random((G, 1)), random.random((G, E))], axis=1),
        "score": np.where(steps, random.random((G, E)), np.nan),
        "cost": np.where(steps, random.random((G, E)), np.nan),
        "logp": np.where(inside, logp, np.nan),
        **{
            name: np.where(inside, logp + random.normal(0, 0.4, (G, T)), np.nan)
            for name in ("old", "reference")
        },
        "advantage": np.where(inside, random.normal(size=(G, T)), np.nan),
        "entropy": np.where(inside, random.exponential(1, (G, T)), np.nan),
    }
    numbers["sampler"] = numbers["old"] + random.normal(0, 0.2, (G, T))
    floats = {name: jnp.asarray(x, jnp.float32) for name, x in numbers.items()}
    rest = {
        "where": where,
        "finished": np.array([True, True, True, True, False]),
        "length": TOKENS,
        "inside": inside,
        "steps": steps,
        "step": step,
    }
    return floats, {name: jnp.asarray(x) for name, x in rest.items()}


def right(x):
    return x["where"] & (x["reward"] > 0.5)


def only(x, values):
    """Rows of a function that takes no mask: 0 where a row does not count."""
    kept = x["where"].reshape((-1,) + (1,) * (values.ndim - 1))
    return jnp.where(kept, values, 0.0)


def of_latents(f, x):
    return only(x, jax.vmap(f)(*only(x, x["latent"]).swapaxes(0, 1)))


def squared_slope(at, along, _):
    return process.compression(lambda p: jax.nn.log_softmax(p)[0], at, along)


def gcpo(latent, replaced, integrated):
    return baselines.causal_weight(latent, replaced, integrated, jnp.ones(D), alpha=2.0)


def judged(score, steps, right):
    return process.consistency(score, steps, right, jnp.float32(0.4), most=2)


def think(x):
    """L2T: from the dense reward to token advantages."""
    gain = x["value"][:, 1:] - x["value"][:, :-1]
    dense = jnp.where(x["steps"], gain - 0.6 * x["cost"], 0.0)
    return paper.token_advantages(
        dense, x["reward"], x["where"], x["logp"], x["step"], x["inside"], x["steps"],
        alpha=0.8, truncation=0.025, ddof=1, epsilon=1e-4, floor=1e-3, clip=5.0,
    )  # fmt: skip


def ratio_loss(x, loss, reduction, **options):
    options = {"beta": 0.04, "clip_low": 0.1, "clip_high": 0.15, "dual_clip": 3.0} | options
    found = losses.policy_loss(
        x["logp"], x["old"], x["reference"], x["advantage"], x["inside"], x["entropy"],
        loss=loss, reduction=reduction, max_tokens=8, **options,
    )  # fmt: skip
    return found.total / jnp.maximum(found.denominator, 1)


def corrected_loss(x, mode):
    """With the weights of truncated importance sampling."""
    weight = ratios.sampler_correction(x["old"], x["sampler"], x["inside"], mode, 1.2, 0.8)
    found = losses.policy_loss(
        x["logp"], x["old"], x["reference"], x["advantage"], x["inside"], weight=weight
    )
    return found.total / jnp.maximum(found.denominator, 1)


def penalty(x, estimator, correction):
    options = {"kl": estimator, "kl_correction": correction, "beta": 0.5}
    return ratio_loss(x, "ppo", "token_mean", **options)


def whole_group(x):
    parts = (x[name][None] for name in ("logp", "old", "reward", "inside"))
    found = losses.gvpo_loss(*parts, scale=0.1)
    return found.total / jnp.maximum(found.denominator, 1)


def supervised(x):
    found = losses.negative_log_likelihood(x["logp"], x["inside"])
    return found.total / jnp.maximum(found.denominator, 1)


SCALE = {"ddof": 1, "epsilon": 1e-4}
ENTROPY = {"base": 1.0, "bonus": 0.1, "floor": 1e-6}
ROWS = {
    "zscore": lambda x: baselines.group_zscore(x["reward"], x["where"], **SCALE),
    "leave_one_out": lambda x: baselines.leave_one_out(x["reward"], x["where"]),
    "mean_only": lambda x: baselines.mean_only(x["reward"], x["where"]),
    "pass_at_k": lambda x: baselines.pass_at_k(right(x), x["where"], k=2, epsilon=1e-6),
    "causal_weight": partial(of_latents, gcpo),
    "process_supervision": lambda x: process.process_supervision(x["score"], x["steps"]),
    "soft_overlong": lambda x: only(x, shaping.soft_overlong(x["length"], limit=5, buffer=4)),
    "length_penalised": lambda x: shaping.length_penalised(
        x["reward"], x["length"], x["finished"], x["where"], alpha=0.2
    ),
    "gtpo": lambda x: shaping.gtpo(right(x), x["entropy"], x["inside"], **ENTROPY, **SCALE),
    "grpo_s": lambda x: shaping.grpo_s(
        right(x), x["entropy"], x["inside"], x["where"], **ENTROPY, **SCALE
    ),
    "over_terminating": lambda x: process.over_terminating(
        x["reward"], x["score"][:, 0], x["where"], x["steps"][:, 0]
    ),
    "compression": partial(of_latents, squared_slope),
    "learning to think": think,
    "consistency": lambda x: only(x, jax.vmap(judged)(x["score"], x["steps"], right(x))),
    "curate": lambda x: process.curate(
        only(x, x["reward"]) + x["length"] / 100,
        right(x),
        x["where"],
        remove=1 + jnp.sum(~x["where"]),
    ).astype(jnp.float32),
    **{
        f"weights {mode}": lambda x, mode=mode: ratios.sampler_correction(
            x["old"], x["sampler"], x["inside"], mode, 1.2, 0.8
        )
        for mode in ratios.CORRECTIONS
    },
}
SMOOTH = {
    **{f"ppo {r}": partial(ratio_loss, loss="ppo", reduction=r) for r in REDUCTIONS},
    "gspo": partial(ratio_loss, loss="gspo", reduction="seq_mean_token_mean"),
    "gvpo": whole_group,
    "entropy bonus": partial(ratio_loss, loss="ppo", reduction="token_mean", entropy_bonus=0.1),
    "k1": partial(penalty, estimator="k1", correction=False),
    "k2": partial(penalty, estimator="k2", correction=False),
    "k1 corrected": partial(penalty, estimator="k1", correction=True),
    "k3 corrected": partial(penalty, estimator="k3", correction=True),
    "truncated importance sampling": partial(corrected_loss, mode="token_truncate"),
    "supervised": supervised,
}
LOSSES = SMOOTH | {
    **{f"cispo {r}": partial(ratio_loss, loss="cispo", reduction=r) for r in REDUCTIONS},
    "gspo_token": partial(ratio_loss, loss="gspo_token", reduction="seq_mean_token_mean"),
    "k3_k2": partial(penalty, estimator="k3_k2", correction=False),
}
EVERY = ROWS | LOSSES
