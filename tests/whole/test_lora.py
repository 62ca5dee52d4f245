"""A run with adapters: the model stays, they are left merged and apart, and it resumes exactly."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from gccpo_jax import sft
from gccpo_jax.config import LoraConfig
from gccpo_jax.policy import weights
from tests.helpers.runs import metrics, small

ADAPTER = "adapter/adapter_model.safetensors"


@pytest.mark.slow
def test_demonstrations_train_adapters_beside_a_frozen_model_and_a_run_resumes_exactly(tmp_path):
    c = small(steps=2, checkpoint__every=1, eval__ood_questions=0)
    lora = LoraConfig(rank=2, alpha=4.0, targets="q down")
    c = dataclasses.replace(c, policy=dataclasses.replace(c.policy, dtype="bfloat16", lora=lora))
    sft.fine_tune(c, "small", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "2")
    shutil.rmtree(tmp_path / "cut" / "adapter")
    sft.fine_tune(c, "small", tmp_path / "cut", resume=True)
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "cut")
    left, right = ((tmp_path / run / ADAPTER).read_bytes() for run in ("whole", "cut"))
    assert left == right

    (_, base), (_, after) = weights.load("tiny", "bfloat16"), weights.load(tmp_path / "cut/policy")
    said = json.loads((tmp_path / "cut/adapter/adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == "tiny" and said["r"] == 2
    moved = {
        name
        for name in base["layers"]
        if not np.array_equal(base["layers"][name], after["layers"][name])
    }
    assert moved == {"q", "down"} and np.array_equal(base["embed"], after["embed"])
    tensors = safetensors.numpy.load_file(tmp_path / "cut" / ADAPTER)
    assert {x.dtype for x in jax.tree.leaves(tensors)} == {np.dtype("float32")}
