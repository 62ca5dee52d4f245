"""A real model end to end: SmolLM2-135M-Instruct from its GGUF file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gccpo_jax.config import freeze
from gccpo_jax.policy import model, weights
from gccpo_jax.policy.gguf_write import save_gguf
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.policy.tokenizer import check_vocab, load_tokenizer
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.tasks import load_task
from gccpo_jax.types import Prompts
from tests.helpers.paths import MISSING, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("smollm2"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("smollm2")


@pytest.fixture(scope="module")
def smollm2(tokenizer):
    arch, params = weights.load("smollm2")
    check_vocab(arch, tokenizer)
    return arch, params, tokenizer


@pytest.mark.own_process
def test_it_knows_the_capital_of_france_and_stops(smollm2):
    arch, params, tokenizer = smollm2
    prompt = np.asarray(tokenizer.render("What is the capital of France?"), np.int32)[None]
    prompts = Prompts(prompt, np.ones(prompt.shape, bool), np.zeros(1, np.uint32))
    stop = jnp.zeros(arch.vocab_size, bool).at[jnp.array(tokenizer.stop_ids)].set(True)
    keys = noise.question_keys(jax.random.key(0), 0, prompts.ids)
    _, rollout = sample(
        model.make_policy(arch), params, prompts, keys, stop,
        group=1, rule=Rule(temperature=0.0), max_tokens=24,
    )  # fmt: skip
    tokens = rollout.tokens[0, 0, : int(rollout.length[0, 0])]
    assert "Paris" in tokenizer.decode(tokens)
    assert rollout.stopped.all() and int(tokens[-1]) in tokenizer.stop_ids


def test_its_tokenizer_is_written_as_llama_cpp_knows_it(tokenizer, tmp_path):
    arch, params = weights.load("tiny")
    arch = dataclasses.replace(arch, vocab_size=tokenizer.vocab_size)
    assert save_gguf(tmp_path / "m.gguf", arch, params, tokenizer)
    other = load_tokenizer(tmp_path / "m.gguf")
    text = "12 apples,  and\n\nit's 3.5 <|im_end|>"
    assert other.encode(text) == tokenizer.encode(text) and other.stop_ids == tokenizer.stop_ids
    assert other.render("2 + 3?") == tokenizer.render("2 + 3?")


@pytest.mark.own_process
def test_exported_and_loaded_it_gives_the_same_logits(smollm2, tmp_path):
    arch, params, tokenizer = smollm2
    weights.save(tmp_path / "export", arch, params, tokenizer)
    again, loaded = weights.load(tmp_path / "export")
    assert again == arch
    other = load_tokenizer(tmp_path / "export")
    text = "12 apples,  and\n\nit's 3.5 <|im_end|>"
    assert other.encode(text) == tokenizer.encode(text)
    assert other.stop_ids == tokenizer.stop_ids
    policy, tokens = model.make_policy(arch), jnp.asarray(tokenizer.encode(text))

    @jax.jit
    def logits(params):
        size = tokens.shape[0]
        hidden, _ = policy.encode(params, tokens, jnp.arange(size), jnp.ones(size, bool), ())
        return policy.logits(params, hidden)

    np.testing.assert_array_equal(logits(params), logits(loaded))


def test_what_it_learns_and_is_asked_on_two_cores_fits_the_limits_of_its_configs(tokenizer):
    problems = {}
    for name in ("smollm2_two_ways_sft.py", "smollm2_two_ways.py:A0", "smollm2_two_ways.py"):
        config = freeze(load_config(str(ROOT / "configs" / name))[0])
        task = load_task(config.task.name, **config.task.options)
        for split in ("train", "label_right", "label_wrong", "label_absent"):
            for item in task.splits[split][:200]:
                asked = tokenizer.render(task.prompt(item), task.system, task.chat)
                assert len(asked) <= config.data.max_prompt_tokens, item.question
                assert len(tokenizer.encode(item.solution)) < config.sampling.max_tokens
        split = "train" if "sft" in name else "label_right"
        problems[name] = {
            dataclasses.replace(item.meta["problem"], label=None, template=0)
            for item in task.splits[split]
        }
    first, *others = problems.values()
    assert all(not first & other for other in others)
