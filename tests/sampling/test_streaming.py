"""A response token by token is the response that is sampled at once."""

import jax

from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling import noise
from gccpo_jax.sampling.opened import open_model
from gccpo_jax.sampling.questions import load_questions
from gccpo_jax.sampling.rollouts import sample
from gccpo_jax.sampling.streaming import stream
from gccpo_jax.tasks.chain.suite import ChainConfig, chain


def test_streamed_tokens_are_the_sampled_ones():
    task = chain(ChainConfig(train=1, id=2, ood=1, max_operations=2))
    model, max_tokens = open_model("tiny", task), 24
    solver, rule = model.solver, Rule(temperature=0.9)
    questions = load_questions(task, "id", solver.tokenizer, 60)
    prompts = questions.prompts([0, 1])
    keys = noise.question_keys(jax.random.key(3), 0, prompts.ids)
    _, rollout = sample(
        solver.policy, model.params, prompts, keys, solver.stop,
        group=1, rule=rule, max_tokens=max_tokens,
    )  # fmt: skip
    for b in range(2):
        found = stream(
            solver.policy, model.params, questions.tokens[b], solver.stop,
            rule=rule, key=keys[b], max_tokens=max_tokens,
        )  # fmt: skip
        length = int(rollout.length[b, 0])
        assert list(found) == rollout.tokens[b, 0, :length].tolist()
        assert 0 < length < max_tokens or not rollout.stopped[b, 0]
