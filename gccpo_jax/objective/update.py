"""One optimizer update on a mesh: the loss of a config, micro-batches, gradient clipping, AdamW.

    numerator and gradient add over micro-batches of questions; the division by
    the whole batch's denominator comes last, so a split batch equals the whole.

The same step trains from rewards and from demonstrations: what differs is the
loss of a micro-batch, which is an argument.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from gccpo_jax.config import (
    CounterfactualConfig,
    CreditConfig,
    ObjectiveConfig,
    OptimConfig,
    SamplingConfig,
)
from gccpo_jax.masked import all_finite, masked_sum, safe_divide
from gccpo_jax.objective.losses import Loss, gvpo_loss, negative_log_likelihood, policy_loss
from gccpo_jax.objective.ratios import MIN_LOGP, sampler_correction
from gccpo_jax.policy.logprobs import token_logp, token_logp_and_entropy
from gccpo_jax.policy.token_law import Rule, behaviour_rule
from gccpo_jax.shapes import check, fields
from gccpo_jax.types import Array, Params, Policy, TrainState, UpdateBatch

_State = TypeVar("_State")


def is_finite(loss: Loss, norm: Array, batch: UpdateBatch) -> Array:
    """Whether an update may be made: [] bool.

    Looks at every sum of the `Loss`, the gradient's global `norm`, and what the batch brings
    for tokens that train. The latter because clamped ratios hide an infinite log-probability.
    """
    given = [batch.behaviour_logp, batch.reference_logp, batch.advantage]
    given = [jnp.where(batch.mask, x, 0.0) for x in given]
    if batch.reward is not None:
        given.append(jnp.where(batch.mask.any(-1), batch.reward, 0.0))
    checks = [jnp.isfinite(x).all() for x in (*jax.tree.leaves(loss), norm, *given)]
    return jnp.stack(checks).all()


def choose(finite: Array, new: _State, old: _State) -> _State:
    """Every leaf of `new` where `finite`, else of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)


def optimizer_of(section: OptimConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer that `config.optim` describes, for `steps` batches."""
    fields = dataclasses.asdict(section)
    for name in ("micro_batch", "memory_gib", "max_skipped", "do_share", "train_branches"):
        del fields[name]
    return make_optimizer(steps=steps * fields.pop("epochs"), **fields)


def keeps_average(credit: CreditConfig, counterfactual: CounterfactualConfig) -> bool:
    """Whether a moving average of the parameters reads answer laws."""
    return credit.of_steps and counterfactual.reader == "ema"


LossFn = Callable[[Params, UpdateBatch], Loss]
Join = Callable[[Params | None, Params], Params]
"""What the policy takes, from frozen parameters and those that train (`policy/lora.py`)."""


def all_train(base: Params | None, own: Params) -> Params:
    """The `Join` without frozen parameters."""
    return own


def make_optimizer(
    *,
    lr: float,
    steps: int,
    warmup: int = 0,
    decay: str = "constant",
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float = 1.0,
) -> optax.GradientTransformation:
    """AdamW with linear warm-up, then constant, linear or cosine decay to 0 at `steps`.

    `clip_norm` bounds the global gradient norm first; 0 leaves gradients as they are.
    Weight decay leaves norms and biases alone, whose names say that they are. Moments are float32
    from the start, whatever the dtype of the parameters: sums of small numbers.
    """
    length = max(steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(lr),
        "linear": optax.linear_schedule(lr, 0.0, length),
        "cosine": optax.cosine_decay_schedule(lr, length),
    }[decay]
    schedule = after
    if warmup:
        # From lr / warmup rather than 0: the first update is an update.
        rise = optax.linear_schedule(lr / warmup, lr, max(warmup - 1, 1))
        schedule = optax.join_schedules([rise, after], [warmup])
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity()
    adamw = optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay, mask=_decays)
    chain = optax.chain(clip, adamw)
    wide = partial(jax.tree.map, lambda x: x.astype(jnp.float32))
    return optax.GradientTransformation(lambda params: chain.init(wide(params)), chain.update)


def _decays(params: Params) -> Any:
    """False on the leaves whose names end in "norm" or "bias".

    Not by their axes: the bias of a projection has two, heads and head.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not path[-1].key.endswith(("norm", "bias")), params
    )


def rl_loss(
    policy: Policy,
    *,
    rule: Rule,
    entropy_bonus: float = 0.0,
    sampler_cap: float = 0.0,
    chunk: int = 1024,
    **options: Any,
) -> LossFn:
    """`losses.policy_loss` on a batch, as a function of the parameters.

    `options` are those of `policy_loss`. Entropies are computed for a bonus > 0 only.
    `sampler_cap`: largest weight of a token for pi_old / pi_sampler (`sampler_correction`,
    "token_truncate"), in a batch with `sampler_logp`; 0 for none.
    """

    def loss(params: Params, batch: UpdateBatch) -> Loss:
        inputs = (policy, params, *texts(batch))
        rows = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
        entropy = None
        if entropy_bonus > 0:
            logp, entropy = token_logp_and_entropy(*inputs, rule=rule, chunk=chunk)
            entropy = rows(entropy)
        else:
            logp = token_logp(*inputs, rule=rule, chunk=chunk)
        old, weight = old_logp(logp, batch), None
        if batch.sampler_logp is not None and sampler_cap:
            given = (old, batch.sampler_logp, batch.mask)
            weight = rows(sampler_correction(*given, "token_truncate", sampler_cap))
        found = policy_loss(
            rows(logp),
            rows(old),
            rows(batch.reference_logp),
            rows(batch.advantage),
            rows(batch.mask),
            entropy,
            weight,
            None if batch.anchor_logp is None else rows(batch.anchor_logp),
            entropy_bonus=entropy_bonus,
            **options,
        )
        return _with_mismatch(found, old, batch)

    return loss


def old_logp(logp: Array, batch: UpdateBatch) -> Array:
    """Log-probabilities [B, G, T] of the policy that sampled, as the update computes them.

    In a batch with `sampler_logp`: at its first update the stop-gradient of `logp` itself, so
    that every ratio is exactly 1, and `behaviour_logp` at later ones (and where the law by the
    update's rounding excludes a token that was sampled). Else what sampling recorded.
    """
    if batch.sampler_logp is None:
        return batch.behaviour_logp
    own = jax.lax.stop_gradient(logp)
    use = batch.fresh[:, None, None] & (own > MIN_LOGP)
    return jnp.where(use, own, batch.behaviour_logp)


def _with_mismatch(loss: Loss, old: Array, batch: UpdateBatch) -> Loss:
    """The loss with the sum of |log pi_old - log pi_sampler| over tokens, where both are known."""
    if batch.sampler_logp is None:
        return loss
    apart = jnp.abs(old - batch.sampler_logp)
    return dataclasses.replace(loss, mismatch=masked_sum(apart, batch.mask))


def group_loss(policy: Policy, *, rule: Rule, scale: float, chunk: int = 1024) -> LossFn:
    """`losses.gvpo_loss` on a batch with rewards; micro-batches hold whole groups."""

    def loss(params: Params, batch: UpdateBatch) -> Loss:
        logp = token_logp(policy, params, *texts(batch), rule=rule, chunk=chunk)
        old = old_logp(logp, batch)
        found = gvpo_loss(logp, old, batch.reward, batch.mask, scale=scale)
        return _with_mismatch(found, old, batch)

    return loss


def sft_loss(policy: Policy, *, chunk: int = 1024) -> LossFn:
    """Token mean of the negative log-likelihood of the responses."""

    def loss(params: Params, batch: UpdateBatch) -> Loss:
        logp = token_logp(policy, params, *texts(batch), rule=Rule(), chunk=chunk)
        rows = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
        return negative_log_likelihood(rows(logp), rows(batch.mask))

    return loss


def texts(batch: UpdateBatch) -> tuple[Array | None, ...]:
    """Prompts and responses of a batch, as `logprobs.token_logp` takes them; context is read."""
    read = batch.mask if batch.context is None else batch.mask | batch.context
    return batch.prompt, batch.prompt_mask, batch.tokens, read, batch.index


def gradient(loss_fn: LossFn, params: Params, batch: UpdateBatch, micro_batch: int) -> tuple:
    """Gradient of total / denominator over the batch, in float32, and the summed `Loss`.

    `micro_batch` questions are in memory at once; it must divide B.
    """
    check(**fields("batch", batch, prompt="B S", prompt_mask="B S", tokens="B G T", mask="B G T"))
    size = batch.prompt.shape[0]
    if size % micro_batch:
        raise ValueError(f"micro-batch {micro_batch} does not divide the batch of {size} questions")
    # Every n-th question, not n consecutive ones: those would all lie on one device of a mesh.
    parts = jax.tree.map(lambda x: x.reshape(micro_batch, -1, *x.shape[1:]).swapaxes(0, 1), batch)

    def total(params: Params, part: UpdateBatch) -> tuple[Array, Loss]:
        loss = loss_fn(params, part)
        return loss.total, loss

    def add(carry: tuple, part: UpdateBatch) -> tuple[tuple, None]:
        grads, loss = jax.grad(total, has_aux=True)(params, part)
        return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, (grads, loss)), None

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
    loss_zero = Loss(*(jnp.float32(0) for _ in range(7)))
    if batch.sampler_logp is not None:
        loss_zero = dataclasses.replace(loss_zero, mismatch=jnp.float32(0))
    (grads, loss), _ = jax.lax.scan(add, (zeros, loss_zero), parts)
    return jax.tree.map(lambda g: safe_divide(g, loss.denominator), grads), loss


def update_is_finite(
    loss_fn: LossFn,
    params: Params,
    batch: UpdateBatch,
    base: Params | None = None,
    join: Join = all_train,
) -> Array:
    """Whether the update of one question, or of a whole batch at once, is finite: [] bool."""
    whole = lambda own, part: loss_fn(join(base, own), part)  # noqa: E731
    grads, loss = gradient(whole, params, batch, batch.prompt.shape[0])
    return is_finite(loss, optax.tree.norm(grads), batch)


def make_update(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    micro_batch: int,
    ema: float = 0.0,
    shardings: TrainState | None = None,
    join: Join = all_train,
) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """The jitted update `(state, batch, base=None) -> (state, metrics)`; the old state is donated.

    The policy's parameters are `join(base, state.params)`: those of `base` stay as they are,
    without gradients or moments.

    An update that is not finite (`is_finite`), or whose size or new state is not, is skipped: the
    state stays as it is and the metric `skipped` is 1.
    A state with an average keeps `ema` of it and adds 1 - `ema` of the new parameters.
    `shardings` is a `TrainState` of shardings for the result (see `sharding.py`).
    """

    def update(
        state: TrainState, batch: UpdateBatch, base: Params | None = None
    ) -> tuple[TrainState, dict[str, Array]]:
        whole = lambda own, part: loss_fn(join(base, own), part)  # noqa: E731
        grads, loss = gradient(whole, state.params, batch, micro_batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average is not None:
            average = jax.tree.map(
                lambda old, new: ema * old + (1 - ema) * new.astype(jnp.float32), average, params
            )
        new = TrainState(params, opt_state, state.step + 1, average)
        norm = optax.tree.norm(grads)
        # A finite gradient is not enough: the optimizer divides and multiplies.
        moved = optax.tree.norm(updates)
        finite = is_finite(loss, norm, batch) & all_finite(new) & jnp.isfinite(moved)
        metrics = {
            "loss": safe_divide(loss.total, loss.denominator),
            "kl": safe_divide(loss.kl, loss.tokens),
            "clip_fraction": safe_divide(loss.clipped, loss.tokens),
            "ratio": safe_divide(loss.ratio, loss.tokens),
            "drift": safe_divide(loss.drift, loss.tokens),
            "grad_norm": norm,
            "update_norm": jnp.where(finite, moved, 0.0),
            "skipped": 1.0 - finite,
        }
        if loss.mismatch is not None:
            metrics["sampler_mismatch"] = safe_divide(loss.mismatch, loss.tokens)
        return choose(finite, new, state), metrics

    out = None if shardings is None else (shardings, None)
    return jax.jit(update, donate_argnums=0, out_shardings=out)


def policy_loss_fn(section: ObjectiveConfig, sampling: SamplingConfig, policy: Policy) -> LossFn:
    """The objective of `config.objective` on a policy, for responses that `sampling` drew."""
    rule = behaviour_rule(sampling)
    options = dataclasses.asdict(section)
    scale = options.pop("gvpo_scale")
    if section.loss == "gvpo":
        return group_loss(policy, rule=rule, scale=scale)
    return rl_loss(policy, rule=rule, max_tokens=sampling.max_tokens, **options)
