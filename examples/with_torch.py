"""The scores of steps for PyTorch: laws as tensors in, effects and robustness as tensors out.

pip install torch; python examples/with_torch.py
"""

import torch

from gccpo_jax import reward
from gccpo_jax.reward.tensors import on_tensors

score = on_tensors(reward.score)
laws = reward.Laws(
    before=torch.tensor([0.1, 0.9, 0.0]),  # two answers and what is neither; the first is right
    factual=torch.tensor([[0.2, 0.8, 0.0], [0.9, 0.1, 0.0]]),  # after each of two steps
    mask=torch.tensor([True, True]),
    gold=torch.tensor(0),
    nuisance=reward.Arms(
        torch.tensor([[[0.2, 0.8, 0.0]], [[0.5, 0.5, 0.0]]]),  # the same, a step in other words
        torch.tensor([[True], [True]]),
        reward.Family.NUISANCE,
    ),
    content=reward.no_arms(reward.Family.CONTENT, (2,), 3),
    baseline=reward.no_arms(reward.Family.BASELINE, (2,), 3),
)
found = score(laws)
print("effect", found.effect.value.tolist())
print("robustness", found.robustness.value.tolist())
