"""Rows of the vocabulary without a token: never sampled, never scored, never trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.cache import decoder_of
from gccpo_jax.policy.logprobs import token_logp_and_entropy
from gccpo_jax.policy.token_law import EXCLUDED, Rule, entropy, log_law
from gccpo_jax.policy.tokenizer import load_tokenizer
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.types import Prompts

ARCH = Arch(16, width=8, depth=1, heads=2, kv_heads=1, head_dim=4, mlp_width=8)
SPARE = ((3, 5), (12, 16))
HIDDEN = jnp.linspace(-1, 1, 8)


@pytest.fixture(scope="module")
def params():
    """Parameters that would hardly write anything but the spare rows."""
    found = model.init(ARCH, jax.random.key(1))
    loud = jnp.zeros(16, bool).at[jnp.array([3, 4, 12, 13, 14, 15])].set(True)
    return found | {"embed": jnp.where(loud[:, None], 20.0, 1.0) * found["embed"]}


def test_logits_are_excluded_in_both_forms_of_the_parameters(params):
    plain, masked = model.make_policy(ARCH), model.make_policy(ARCH, spare=SPARE)
    expected = np.array(plain.logits(params, HIDDEN))
    expected[[3, 4, 12, 13, 14, 15]] = EXCLUDED
    np.testing.assert_array_equal(masked.logits(params, HIDDEN), expected)
    unrolled = decoder_of(masked).unroll(params)
    np.testing.assert_allclose(masked.logits(unrolled, HIDDEN), expected, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 1e-9])
def test_the_law_and_its_entropy_are_finite(params, temperature):
    logits = model.make_policy(ARCH, spare=SPARE).logits(params, HIDDEN)
    law = log_law(logits, Rule(temperature))
    assert np.isfinite(law).all() and np.isfinite(entropy(law))
    assert np.exp(law)[[3, 4, 12, 13, 14, 15]].tolist() == [0.0] * 6


def test_they_are_never_sampled_and_scored_as_they_were_sampled(params):
    prompts = Prompts(jnp.array([[0, 1]]), jnp.ones((1, 2), bool), jnp.zeros(1, jnp.uint32))
    keys, stop = noise.question_keys(jax.random.key(0), 1, prompts.ids), jnp.zeros(16, bool)

    def drawn(policy):
        return sample(policy, params, prompts, keys, stop, group=4, rule=Rule(1.0), max_tokens=8)[1]

    policy = model.make_policy(ARCH, spare=SPARE)
    rollout = drawn(policy)
    assert not np.isin(rollout.tokens, [3, 4, 12, 13, 14, 15]).any()
    assert np.isin(drawn(model.make_policy(ARCH)).tokens, [3, 4, 12, 13, 14, 15]).any()

    def scored(params):
        mask = jnp.ones(rollout.tokens.shape, bool)
        tokens = (prompts.tokens, prompts.mask, rollout.tokens, mask)
        return token_logp_and_entropy(policy, params, *tokens, rule=Rule(1.0))

    gradient, found = jax.grad(lambda p: (scored(p)[0].sum(), scored(p)), has_aux=True)(params)
    np.testing.assert_allclose(found[0], rollout.logp, atol=1e-5)
    np.testing.assert_allclose(found[1], rollout.entropy, atol=1e-5)
    moved = np.abs(gradient["embed"]).sum(1) > 0
    assert not moved[[3, 4, 12, 13, 14, 15]].any() and moved[:3].all()


def test_which_rows_are_spare():
    tokenizer = load_tokenizer("tiny")
    assert tokenizer.spare_rows(104) == ((100, 104),)
    assert tokenizer.spare_rows(100) == ()
    tokenizer.backend.add_tokens(["<new>"])
    assert tokenizer.spare_rows(104) == ((101, 104),)
