"""Branches as trajectories of the update: advantages, who trains, whose log-probabilities."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.counterfactual.readers import Written
from gccpo_jax.objective.update import gradient, rl_loss, texts
from gccpo_jax.policy.logprobs import token_logp
from gccpo_jax.policy.token_law import Rule, behaviour_rule
from gccpo_jax.runtime.timing import Stopwatch
from gccpo_jax.sampling.branches import Branches
from gccpo_jax.sampling.buckets import padded
from gccpo_jax.sampling.questions import TrainBatches
from gccpo_jax.train import next_questions, update_batch
from gccpo_jax.training.branched import branch_update
from gccpo_jax.training.experience import collect
from gccpo_jax.training.intervened import Trained
from gccpo_jax.training.session import open_session
from gccpo_jax.types import Prompts, Spans
from tests.helpers import bigram
from tests.helpers.runs import small

B, G, E, N, T, H = 2, 2, 2, 3, 7, 5


def batch(vocabulary=9, most=3):
    """Trajectories of T tokens, and three branches from the ends of two of their steps."""
    rng = np.random.default_rng(0)
    ids = lambda *shape: jnp.asarray(rng.integers(1, vocabulary, shape), jnp.int32)  # noqa: E731
    reals = lambda *shape: jnp.asarray(-rng.random(shape), jnp.float32)  # noqa: E731
    asked = Trained(
        Prompts(ids(B, 2), jnp.ones((B, 2), bool), jnp.arange(B)),
        ids(B, G, T),
        reals(B, G, T),
        reals(B, G, T),
        jnp.ones((B, G, T), bool),
    )
    end = jnp.broadcast_to(jnp.array([2, 4, T]), (B, G, E + 1))
    spans = Spans(jnp.roll(end, 1, -1) % T, end, jnp.ones(end.shape, bool))
    length = jnp.asarray(rng.integers(1, most + 1, (B, G, E, N)), jnp.int32)
    score = rng.integers(0, 2, (B, G, E, N)).astype(np.float32)
    score[0, 0, 0] = 1, 0, np.nan  # one could not be scored
    score[0, 0, 1] = 1, np.nan, np.nan  # the other is alone
    score[0, 1, 0] = 1, 0, 0
    score[0, 1, 1] = np.nan  # there is no such boundary
    branches = Branches(ids(B, G, E, N, H), reals(B, G, E, N, H), length)
    return asked, spans, Written(branches, score)


@pytest.mark.parametrize("limit, size, most", [(T, T, 3), (64, 32, H)], ids=["held", "longer"])
def test_a_branch_trains_what_it_decoded_against_the_others_of_its_boundary(limit, size, most):
    asked, spans, written = batch(most=most)
    found, told = branch_update(asked, spans, written, limit)
    assert found.tokens.shape == (B, G + G * E * N, size)
    for name in ("tokens", "logp", "advantage", "mask"):
        wanted = padded(getattr(asked, name), size)
        np.testing.assert_array_equal(getattr(found, name)[:, :G], wanted)
    assert not found.context[:, :G].any()
    trained = moved = read = 0
    for row, (b, g, e, n) in enumerate(itertools.product(range(B), range(G), range(E), range(N))):
        row = G + row % (G * E * N)
        got = {k: np.asarray(getattr(found, k)[b, row]) for k in vars(found) if k != "prompts"}
        others = np.delete(written.score[b, g, e].astype(np.float64), n)
        others = others[~np.isnan(others)]
        if np.isnan(written.score[b, g, e, n]) or not len(others):
            assert not got["mask"].any() and not got["context"].any() and not got["tokens"].any()
            continue
        begin = int(spans.end[b, g, e])
        until = begin + int(written.branches.length[b, g, e, n])
        tokens = [*asked.tokens[b, g, :begin], *written.branches.tokens[b, g, e, n]][:until]
        np.testing.assert_array_equal(got["tokens"], np.pad(tokens, (0, size - until)))
        own = np.arange(size)
        np.testing.assert_array_equal(got["context"], own < begin)
        np.testing.assert_array_equal(got["mask"], (own >= begin) & (own < until))
        advantage = written.score[b, g, e, n] - others.mean()
        np.testing.assert_allclose(got["advantage"], advantage * got["mask"], atol=1e-7)
        np.testing.assert_array_equal(
            got["logp"][begin:until], written.branches.logp[b, g, e, n, : until - begin]
        )
        trained, moved, read = trained + 1, moved + (advantage != 0), read + until
    assert told["branches_trained"] == pytest.approx(trained / (B * G))
    assert told["branches_contrast"] == pytest.approx(moved / trained)
    assert told["branch_context_tokens"] == read


def test_the_tokens_that_a_branch_went_on_from_have_no_gradient():
    asked, spans, written = batch(vocabulary=bigram.V)
    asked = dataclasses.replace(asked, mask=jnp.zeros_like(asked.mask))  # branches alone
    prefix = asked.tokens.at[..., :3].set(jnp.array([1, 2, 3]))  # the transitions 1 to 2 to 3
    branches = dataclasses.replace(
        written.branches, tokens=jnp.full_like(written.branches.tokens, 0)
    )
    spans = dataclasses.replace(spans, end=spans.end.at[..., 0].set(3).at[..., 1].set(3))
    trained, _ = branch_update(
        dataclasses.replace(asked, tokens=prefix), spans, Written(branches, written.score), T
    )
    given = update_batch(Kept(trained), None, None)
    loss = rl_loss(bigram.POLICY, rule=Rule(), reduction="token_mean", beta=0.0)
    grads, found = gradient(loss, bigram.parameters(), given, micro_batch=1)
    assert float(found.tokens) == float(trained.mask.sum())
    table = next(g for g in jax.tree.leaves(grads) if g.shape == (bigram.V, bigram.V))
    assert np.abs(table[3]).max() > 0, "the first token of a branch follows a 3"
    assert not np.any(table[1]) and not np.any(table[2])


@dataclasses.dataclass
class Kept:
    """Of an experience, what the update reads."""

    trained: Trained
    reward: None = None
    anchor: None = None


def test_behaviour_is_that_of_decoding():
    """Read again in their rows, branches have the log-probabilities that they were drawn with."""
    config = small(optim__train_branches=True, credit__gate=False, eval__ood_questions=0)
    session, params = open_session(config)
    batches = TrainBatches(session.train, config.batch_size, config.seed)
    items, prompts = next_questions(batches, session.mesh)
    found = collect(session.solver, config, params, items, prompts, 1, Stopwatch())
    given = update_batch(found, None, None)
    rule = behaviour_rule(config.sampling)
    logp = jax.jit(token_logp, static_argnums=0, static_argnames="rule")
    again = logp(session.solver.policy, params, *texts(given), rule=rule)
    own = np.asarray(given.mask)
    assert own[:, config.group_size :].any()
    np.testing.assert_allclose(again[own], given.behaviour_logp[own], atol=2e-4)
    assert found.metrics["branch_context_tokens"] > found.metrics["branches_trained"] > 0
