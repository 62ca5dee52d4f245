"""Bytes of a tiny decoder counted by hand, what a mesh divides, and mistakes."""

import dataclasses
import json

import pytest

from gccpo_jax import plan
from gccpo_jax.config import MeshConfig, default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.training.planning import memory, stages
from tests.helpers.paths import ROOT

ARCH = Arch(16, width=8, depth=2, heads=2, kv_heads=2, head_dim=4, mlp_width=12)
PROJECTIONS = 3 * 8 * 2 * 4 + 2 * 4 * 8  # q, k, v and o
MATRICES = 16 * 8 + 2 * (PROJECTIONS + 3 * 8 * 12)
NORMS = 8 + 2 * (8 + 8)
PARAMETERS = 4 * (MATRICES + NORMS)  # float32


def config_of(**fields):
    """4 questions of 10 tokens, 3 responses of 6 tokens each, credit by outcome."""
    config = default()
    config.batch_size, config.group_size = 4, 3
    config.data.max_prompt_tokens, config.sampling.max_tokens = 10, 6
    config.credit.kind, config.objective.beta = "outcome", 0.0
    config.eval.batch = 2
    for path, value in fields.items():
        section, _, name = path.rpartition("__")
        (config[section] if section else config)[name] = value
    return freeze(config)


def sizes(rows):
    return {row.name: row.size for row in rows}


def test_what_is_kept():
    tokens, rows = 4 * 3 * 6, 4 * 3
    prompts = 4 * (2 * 2 * 4 * 2 * 10 * 4) + 4 * 10  # L, keys and values, B, K, S, D; mask
    rollouts = 4 * (2 * 2 * rows * 2 * 6 * 4) + tokens  # the same for B G rows of T
    rollouts += 3 * 4 * tokens + 4 * rows + rows  # tokens, logp, entropy; length; stopped
    assert sizes(memory.plan(config_of(), ARCH).kept) == {
        "parameters": PARAMETERS,
        "moments": 2 * PARAMETERS + 4 + 4,  # and two counters of steps
        "caches of prompts and rollouts": prompts + rollouts,
        "batch": (4 + 1) * 4 * 10 + (4 + 1 + 3 * 4) * tokens + 4 * rows,
        "gradients": 2 * PARAMETERS,  # their sum, and those of a micro-batch
    }


def test_adapters_alone_have_moments_and_gradients_and_the_reference_is_the_base():
    c = config_of(policy__lora=dict(rank=2, alpha=4.0, targets="q down"), objective__beta=0.1)
    numbers = 2 * ((8 * 2 + 2 * 2 * 4) + (12 * 2 + 2 * 8))  # L layers, A and B of q and of down
    kept = sizes(memory.plan(c, ARCH).kept)
    assert kept["parameters"] == PARAMETERS and kept["adapters"] == 4 * numbers
    assert kept["moments"] == 2 * 4 * numbers + 4 + 4
    assert kept["gradients"] == 2 * 4 * numbers
    assert "reference" not in kept


def test_references_and_averages():
    def kept(dtype="float32", **fields):
        return sizes(memory.state_rows(config_of(**fields), dataclasses.replace(ARCH, dtype=dtype)))

    steps = dict(credit__kind="gated_gae", counterfactual__reader="reference")
    average = steps | dict(counterfactual__reader="ema")
    assert kept(objective__beta=0.1)["reference"] == PARAMETERS
    assert kept(**steps)["reference"] == PARAMETERS
    assert set(kept()) == {"parameters", "moments"}
    assert kept(**average)["moving average"] == PARAMETERS
    assert set(kept(**average)) == {"parameters", "moments", "moving average"}
    half = kept("bfloat16", **average)
    assert half["parameters"] == half["moving average as a policy"] == PARAMETERS / 2
    assert half["moving average"] == PARAMETERS, "it stays float32"
    assert half["moments"] == 2 * PARAMETERS + 8, "so do they"


@pytest.mark.parametrize(
    "mesh, parameters, gradients, questions",
    [
        (dict(data=2), PARAMETERS, 1, 2),
        (dict(fsdp=2), 4 * (MATRICES / 2 + NORMS), 2, 2),  # every matrix has an axis `embed`
        (dict(tensor=2), 4 * (MATRICES / 2 + NORMS), None, 1),
        (dict(data=2, fsdp=2), 4 * (MATRICES / 2 + NORMS), 2, 4),
        (dict(fsdp=2, tensor=2), 4 * (MATRICES / 4 + NORMS), None, 2),
    ],
)
def test_what_a_mesh_divides(mesh, parameters, gradients, questions):
    whole = memory.plan(config_of(), ARCH)
    split = memory.plan(dataclasses.replace(config_of(), mesh=MeshConfig(**mesh)), ARCH)
    before, after = sizes(whole.kept), sizes(split.kept)
    assert after["parameters"] == parameters
    assert after["moments"] == 2 * parameters + 8
    assert after["batch"] == before["batch"] / questions
    if gradients:
        assert after["gradients"] == before["gradients"] / gradients
    if "tensor" not in mesh:
        name = "caches of prompts and rollouts"
        assert after[name] == before[name] / questions
        assert sizes(split.stages)["evaluation"] == sizes(whole.stages)["evaluation"]
    assert split.peak.total < whole.peak.total


def test_stages_stand_on_what_is_alive():
    found = memory.plan(config_of(objective__beta=0.1, sampling__dynamic=1), ARCH)
    kept, stage = sizes(found.kept), {row.name: row for row in found.stages}
    assert list(stage) == ["evaluation", "sampling", "refill", "reference", "update"]
    always = kept["parameters"] + kept["moments"] + kept["reference"]
    caches = kept["caches of prompts and rollouts"]
    assert stage["evaluation"].total == always + stage["evaluation"].size
    assert stage["sampling"].total == always + caches + stage["sampling"].size
    assert stage["refill"].total == always + 3 * caches
    update = kept["batch"] + kept["gradients"] + stage["update"].size
    assert stage["update"].total == always + update
    assert found.peak is stage["update"]


def test_the_readings_of_a_config_and_one_step_alive_at_a_time():
    arms = dict(latent=2, surface=1, equivalent=2, corrupt=1, swap=1, equivariance=1)
    fields = {f"counterfactual__{name}_arms": count for name, count in arms.items()}
    fields |= dict(credit__kind="gated_gae", counterfactual__reader="reference")
    found = memory.plan(config_of(**fields), ARCH)
    names = [row.name for row in found.stages]
    assert names == [
        "evaluation",
        "sampling",
        "branches",
        stages.READER,
        "readout, latent",
        "readout, surface",
        "equivalent, decoded",
        "readout, equivalent",
        "readout, corrupt",
        "likelihood of swaps",
        "readout, swap",
        "readout, equivariance",
        "update",
    ]
    caches = sizes(found.kept)["caches of prompts and rollouts"]
    total = {row.name: row.total - row.size for row in found.stages}
    assert total["readout, latent"] == total["branches"] + caches, (
        "the reader has caches of its own"
    )


def latent_work(**fields):
    config = config_of(group_size=16, credit__kind="gated_gae", sampling__max_tokens=64, **fields)
    share = stages.share_of(config, ARCH)
    _, prompt, rollout = stages.sampling(share)
    read = {stage.name: stage for stage in stages.readings(share, prompt, rollout)}
    return read["readout, latent"].work


def test_edited_caches_are_those_of_a_few_steps():
    cache = 4 * (2 * 2 * 4 * 16 * 2 * 64 * 4)  # L, keys and values, B, G, K, T, D
    two = latent_work(counterfactual__boundaries=2)
    assert latent_work(counterfactual__boundaries=5) < two + 0.1 * cache
    more = latent_work(counterfactual__boundaries=2, counterfactual__latent_arms=3) - two
    assert cache / 2 < more < 1.5 * cache, "a quarter of one more arm and its noise"


def test_recomputing_layers_and_small_micro_batches_lower_the_update():
    fields = dict(data__max_prompt_tokens=64, sampling__max_tokens=64)
    update = lambda **more: memory.plan(config_of(**fields, **more), ARCH).stages[-1].size  # noqa: E731
    whole = update()
    assert update(policy__remat=True) < 0.9 * whole
    assert update(optim__micro_batch=1) < 0.5 * whole


def test_the_largest_micro_batch_that_fits():
    fields = dict(data__max_prompt_tokens=64, sampling__max_tokens=64)
    peaks = {
        size: memory.plan_update(config_of(**fields, optim__micro_batch=size), ARCH).total
        for size in (1, 2, 4)
    }
    assert peaks[1] < peaks[2] < peaks[4]
    for size, peak in peaks.items():
        whole = memory.plan(config_of(**fields, optim__micro_batch=size), ARCH)
        assert whole.stages[-1].total == peak
        for spare, expected in ((0, size), (-1, size // 2)):
            config = config_of(**fields, optim__memory_gib=(peak + spare) / 2**30)
            if expected:
                assert memory.fitted(config, ARCH).optim.micro_batch == expected
                continue
            with pytest.raises(UserError, match=r"micro-batches of 1 questions.* take 0\.\d+ GiB"):
                memory.fitted(config, ARCH)
    asked = config_of(**fields, optim__micro_batch=2)
    assert memory.fitted(asked, ARCH) is asked


def test_a_micro_batch_that_fits_is_divided_by_the_mesh():
    config = dataclasses.replace(config_of(optim__memory_gib=1.0), mesh=MeshConfig(data=2))
    assert memory.fitted(config, ARCH).optim.micro_batch == 4
    config = dataclasses.replace(config_of(optim__memory_gib=1e-9), mesh=MeshConfig(data=2))
    with pytest.raises(UserError, match="micro-batches of 2 questions, the smallest on this mesh"):
        memory.fitted(config, ARCH)


def test_mistakes(tmp_path):
    tensor = dataclasses.replace(config_of(), mesh=MeshConfig(tensor=4))
    with pytest.raises(UserError, match=r"2 does not divide over mesh.tensor = 4"):
        memory.plan(tensor, ARCH)
    with pytest.raises(UserError, match=r"1 x 1 x 4 .* needs 4 devices, --devices is 2"):
        plan.check_devices(tensor, "2")
    for text in ("", "0", "two"):
        with pytest.raises(UserError, match=f"--devices {text}: expected a whole number"):
            plan.check_devices(tensor, text)
    plan.check_devices(tensor, "4")
    plan.check_devices(tensor, None)
    with pytest.raises(UserError, match=r"'org/name': not on this machine.*config.json"):
        plan.shape_of(config_of(policy__path="org/name"))
    with pytest.raises(UserError, match="no config.json"):
        plan.shape_of(config_of(policy__path=str(tmp_path)))


def test_the_command_takes_a_shape_without_weights(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(ARCH.to_hf()))
    arguments = ["--config", str(ROOT / "configs" / "quickstart.py:A0")]
    arguments += [f"--config.policy.path={tmp_path}", "--config.mesh.fsdp=2"]
    assert plan.main([*arguments, "--devices", "8"]) == 0
    printed = capsys.readouterr().out
    for text in ("quickstart-A0", "parameters", "gradients", "<- peak", "mesh 1 x 2 x 1"):
        assert text in printed
    assert plan.main([*arguments, "--devices=1"]) == 2
    assert "needs 2 devices, --devices is 1" in capsys.readouterr().err


def test_a_decoder_from_random_weights_has_a_shape():
    config = config_of(policy__init="scratch")
    assert plan.shape_of(config).width == config.policy.scratch.width


@pytest.mark.parametrize(
    "changes, rows",
    [
        ({"credit__kind": "sdpo"}, {"teacher"}),
        (
            {"credit__kind": "gated_gae", "counterfactual__from_departure": True},
            {"departures"},
        ),
        ({"credit__kind": "gcpo"}, {"re-generations", "re-generations, read"}),
        ({"credit__kind": "l2t", "credit__compression": 0.6}, {"compression"}),
    ],
)
def test_what_reads_responses_again_is_planned(changes, rows):
    found = {row.name for row in memory.plan(config_of(**changes), ARCH).stages}
    assert rows <= found
    assert not rows & {row.name for row in memory.plan(config_of(), ARCH).stages}
