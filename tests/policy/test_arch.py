"""`config.json`: what is left out, and every spelling of what is not supported."""

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import DEFAULTS, FAMILIES, Arch, Llama3Rope

SIZES = {
    "vocab_size": 64,
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "intermediate_size": 48,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_out_is_the_default_of_the_class_in_transformers(family):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(family).to_dict()
    theirs["rope_theta"] = theirs["rope_parameters"]["rope_theta"]
    for field, value in DEFAULTS[family].items():
        if value is None:  # follows from the others, or there is no such field
            assert field in ("num_key_value_heads", "head_dim", "sliding_window")
        elif field == "sliding_window" and "use_sliding_window" in theirs:
            kind = type(transformers.AutoConfig.for_model(family, use_sliding_window=True))
            assert kind(use_sliding_window=True).sliding_window == value
        elif field in theirs:
            assert theirs[field] == value, field
        else:
            assert field in ("attention_bias", "mlp_bias") and not value, field


@pytest.mark.parametrize(
    ("family", "head_dim", "kv_heads", "positions"),
    [("llama", 8, 32, 2048), ("qwen2", 8, 32, 32768), ("qwen3", 128, 32, 32768)],
)
def test_a_config_of_sizes_alone(family, head_dim, kv_heads, positions):
    arch = Arch.from_hf(SIZES | {"model_type": family})
    assert (arch.head_dim, arch.kv_heads, arch.max_positions) == (head_dim, kv_heads, positions)
    assert (arch.norm_eps, arch.rope_theta, arch.tied) == (1e-6, 10000.0, False)


def test_a_mistral_without_its_window_has_the_one_of_its_class():
    config = SIZES | {"model_type": "mistral"}
    with pytest.raises(UserError, match="sliding_window=4096"):
        Arch.from_hf(config)
    arch = Arch.from_hf(config | {"max_position_embeddings": 4096})
    assert (arch.kv_heads, arch.max_positions) == (8, 4096)
    assert Arch.from_hf(config | {"sliding_window": None}).max_positions == 131072


@pytest.mark.parametrize("change", [{"use_sliding_window": False}, {"max_window_layers": 9}])
def test_mistral_has_no_switch_of_its_window(change):
    with pytest.raises(UserError, match="sliding_window=16"):
        Arch.from_hf(SIZES | {"model_type": "mistral", "sliding_window": 16} | change)


def test_qwen_has_a_window_only_where_it_says_so():
    config = SIZES | {"model_type": "qwen2", "sliding_window": 16, "max_window_layers": 0}
    assert Arch.from_hf(config).max_positions == 32768
    with pytest.raises(UserError, match="sliding_window=16"):
        Arch.from_hf(config | {"use_sliding_window": True})
    with pytest.raises(UserError, match="sliding_window=4096"):
        switched = {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 0}
        Arch.from_hf(SIZES | switched)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_scaling": {"factor": 4.0}}, "rope_scaling.factor=4.0"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_type='linear'"),
        ({"rope_parameters": {"type": "yarn"}}, "rope_type='yarn'"),
        ({"rope_parameters": {"rope_type": "default", "attention_factor": 2}}, "attention_factor"),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}}, "sliding_attention"),
        (
            {"rope_scaling": {"rope_type": "yarn"}, "rope_parameters": {"rope_type": "default"}},
            "rope_type='yarn'",
        ),
        ({"rope_scaling": {"type": "mrope", "rope_type": "default"}}, "'mrope'"),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, "rope_theta=1000000.0"),
        ({"rope_scaling": {"rope_theta": 1e4}, "rotary_emb_base": 1e6}, "rope_theta=1000000.0"),
        ({"rope_scaling": LLAMA3 | {"attention_factor": 2.0}}, "attention_factor"),
        ({"rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"rotary_pct": 0.25}, "rotary_pct=0.25"),
        ({"rope_theta": 0}, "rope_theta=0.0"),
        ({"num_key_value_heads": 0}, "kv_heads=0"),
        ({"quantization": {"bits": 4}}, "quantization="),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ({"num_local_experts": 8}, "num_local_experts=8"),
        ({"is_causal": False}, "is_causal=False"),
        ({"attention_chunk_size": 8192}, "attention_chunk_size=8192"),
    ],
)
def test_a_feature_is_refused_in_each_of_its_spellings(change, words):
    with pytest.raises(UserError) as error:
        Arch.from_hf(SIZES | {"model_type": "llama"} | change)
    assert words in str(error.value)


def test_rope_is_the_same_wherever_it_is_written():
    config = SIZES | {"model_type": "llama", "max_position_embeddings": 512}
    expected = Llama3Rope(8.0, 1.0, 4.0, 64)
    original = {"original_max_position_embeddings": 64}
    for change in (
        {"rope_scaling": LLAMA3 | original, "rope_theta": 5e5},
        {"rope_parameters": LLAMA3 | original | {"rope_theta": 5e5}},
        {"rope_parameters": LLAMA3 | {"rope_theta": 5e5}, **original},
        {"rope_parameters": {"rope_theta": 5e5}, "rope_scaling": LLAMA3 | original},
    ):
        arch = Arch.from_hf(config | change)
        assert (arch.rope_scaling, arch.rope_theta) == (expected, 5e5)
    assert Arch.from_hf(config | {"rope_scaling": LLAMA3}).rope_scaling == expected._replace(
        original_max_position=512
    )
