"""What a decoder of the Llama family looks like: one frozen record, read from `config.json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from gccpo_jax.errors import UserError

FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Supported `model_type`s and the class that Hugging Face knows them by."""

DTYPES = ("float32", "bfloat16")

_SHARED: dict[str, Any] = {
    "num_key_value_heads": None,  # as many as query heads
    "head_dim": None,  # hidden_size / num_attention_heads
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "max_position_embeddings": 32768,
    "sliding_window": None,
}
_QWEN = {
    "num_key_value_heads": 32,
    "sliding_window": 4096,
    "use_sliding_window": False,
    "max_window_layers": 28,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _SHARED | {"max_position_embeddings": 2048},
    "mistral": _SHARED
    | {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    "qwen2": _SHARED | _QWEN,
    "qwen3": _SHARED | _QWEN | {"head_dim": 128},
}
"""What a field that `config.json` leaves out means in a family; None follows from the others.

Source: the classes `LlamaConfig`, `MistralConfig`, `Qwen2Config` and `Qwen3Config` of
transformers 5 (the rotary base: `RotaryEmbeddingConfigMixin.default_theta`). The five sizes
that say which model it is have no default here.
"""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("quantization_config", "quantization", "compression_config"), (None,)),
    "hidden_act": ("silu", "swish"),
    "hidden_activation": (None, "silu", "swish"),
    "mlp_bias": (False, None),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct", "rope_ratio"), (1.0, None)),
    **dict.fromkeys(("rope_interleave", "rope_interleaved", "use_dynamic_ntk"), (False, None)),
    **dict.fromkeys(("use_logn_attn", "alibi"), (False, None)),
    **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping"), (None,)),
    **dict.fromkeys(("logit_scale", "logits_scaling", "residual_multiplier"), (1.0, None)),
    **dict.fromkeys(("embedding_multiplier", "clip_qkv", "attention_multiplier"), (None,)),
    "is_causal": (True, None),
    "use_bidirectional_attention": (False, None),
    "attention_chunk_size": (None,),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), (0, None)),
}
"""Every spelling of a feature that is not here, with the values that ask for nothing."""

_ROPE_NAMES = {"type": "rope_type", "rotary_emb_base": "rope_theta"}
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


class Llama3Rope(NamedTuple):
    """Llama 3's stretch of the rotary wavelengths beyond the context it was trained with."""

    factor: float  # long wavelengths are stretched by this
    low_freq_factor: float  # wavelengths above original/low are stretched in full
    high_freq_factor: float  # wavelengths below original/high stay as they are
    original_max_position: int  # context length before stretching, in tokens


@dataclasses.dataclass(frozen=True)
class Arch:
    """The shape of a decoder. Hashable, so it can be a static argument of `jit`.

    Raises:
      UserError: sizes that cannot belong together, or an unknown family or dtype.
    """

    vocab_size: int  # V, rows of the embedding (may exceed the tokenizer's: padding)
    width: int  # M, size of the residual stream
    depth: int  # L, number of layers
    heads: int  # query heads
    kv_heads: int  # K, key/value heads; divides `heads`
    head_dim: int  # D, size of a head; `heads * head_dim` need not be `width`
    mlp_width: int  # hidden size of the gated MLP
    rope_theta: float = 10000.0  # base of the rotary wavelengths
    rope_scaling: Llama3Rope | None = None  # None: plain rotary positions
    norm_eps: float = 1e-5  # added to the mean square in RMSNorm
    tied: bool = True  # the readout is the embedding
    qkv_bias: bool = False  # biases on the q, k and v projections (Qwen2)
    out_bias: bool = False  # bias on the attention's output projection
    qk_norm: bool = False  # RMSNorm of every query and key head before RoPE (Qwen3)
    max_positions: int = 2048  # context length the model was made for, in tokens
    family: str = "llama"  # a key of `FAMILIES`: how Hugging Face calls it
    dtype: str = "float32"  # of stored parameters, hence of activations

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "width", "depth", "heads", "kv_heads", "head_dim", "mlp_width")
        for name in (*sizes, "max_positions"):
            size = getattr(self, name)
            if type(size) is not int or not 0 < size < 2**31:
                raise UserError(f"{name}={size!r}: expected a whole number from 1 to 2**31 - 1")
        if not (0 < self.rope_theta < math.inf and 0 <= self.norm_eps < math.inf):
            numbers = f"rope_theta={self.rope_theta!r}, norm_eps={self.norm_eps!r}"
            raise UserError(f"{numbers}: expected a number above 0, and one of at least 0")
        if self.heads % self.kv_heads:
            raise UserError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.head_dim % 2:
            raise UserError(f"head_dim={self.head_dim} is odd; rotary positions need pairs")
        if self.family not in FAMILIES:
            raise UserError(_unsupported("model_type", self.family, sorted(FAMILIES)))
        if self.dtype not in DTYPES:
            raise UserError(_unsupported("dtype", self.dtype, DTYPES))

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Arch:
        """Reads the content of a Hugging Face `config.json`, old or new spelling.

        float16 is read as float32, which holds its values exactly.

        Raises:
          UserError: a field is missing, or a feature is not supported.
        """
        try:
            family = config["model_type"]
            if family not in FAMILIES:
                raise UserError(_unsupported("model_type", family, FAMILIES))
            full = DEFAULTS[family] | dict(config)
            _refuse(full)
            theta, scaling = _rope(config, full)
            rope = {"rope_theta": theta, "rope_scaling": scaling}
            return cls(**_sizes(full), **_switches(full), **rope)
        except KeyError as error:
            raise UserError(f"config.json has no field {error}; is it a decoder's?") from None
        except UserError:
            raise
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UserError(f"config.json: a field's value cannot be read ({error})") from error

    def to_hf(self) -> dict[str, Any]:
        """The content of a `config.json` that `transformers` 4 and 5 read."""
        has_bias = self.qkv_bias and self.family != "qwen2"
        return {
            "architectures": [FAMILIES[self.family]],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.mlp_width,
            "hidden_act": "silu",
            "rope_theta": self.rope_theta,
            "rope_scaling": _rope_to_hf(self.rope_scaling),
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied,
            "attention_bias": has_bias,
            "mlp_bias": False,
            "sliding_window": None,
            "use_sliding_window": False,
            "max_position_embeddings": self.max_positions,
            "torch_dtype": self.dtype,
        }


def _sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config["head_dim"]
    return {
        "vocab_size": config["vocab_size"],
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": heads if kv_heads is None else kv_heads,
        "head_dim": config["hidden_size"] // heads if head_dim is None else head_dim,
        "mlp_width": config["intermediate_size"],
        "max_positions": config["max_position_embeddings"],
    }


def _switches(config: Mapping[str, Any]) -> dict[str, Any]:
    family = config["model_type"]
    bias = bool(config["attention_bias"])
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    for name in ("attention_bias", "tie_word_embeddings"):
        if not isinstance(config[name], (bool, type(None))):
            raise UserError(f"{name}={config[name]!r}: expected true or false")
    return {
        "norm_eps": float(config["rms_norm_eps"]),
        "tied": bool(config["tie_word_embeddings"]),
        "qkv_bias": bias or family == "qwen2",
        "out_bias": bias and family != "qwen2",
        "qk_norm": family == "qwen3",
        "family": family,
        "dtype": "float32" if dtype == "float16" else dtype,
    }


def _rope(stated: Mapping[str, Any], full: Mapping[str, Any]) -> tuple[float, Llama3Rope | None]:
    """Base and scaling, from what the config states; what it leaves out from its family."""
    rope = _rope_fields(stated)
    theta = float(rope.pop("rope_theta", full["rope_theta"]))
    kind = rope.pop("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise UserError(_unsupported("rope_scaling.rope_type", kind, ("default", "llama3")))
    neutral = {"partial_rotary_factor": (1.0,), "factor": (1.0,)}
    for name, value in rope.items():
        known = kind == "llama3" and name in _LLAMA3 or name == "original_max_position_embeddings"
        if not known and value not in neutral.get(name, ()):
            raise UserError(_unsupported(f"rope_scaling.{name}", value, neutral.get(name, (None,))))
    if kind == "default":
        return theta, None
    scaling = Llama3Rope(
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        int(rope.get("original_max_position_embeddings", full["max_position_embeddings"])),
    )
    return theta, scaling


def _rope_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary settings, wherever they are written, under their names of today.

    `rope_parameters` (transformers 5), `rope_scaling`, and fields of the config itself.

    Raises:
      UserError: two places that do not agree.
    """
    names = ("rope_theta", "rotary_emb_base", "original_max_position_embeddings")
    outside = {name: config[name] for name in names if name in config}
    found: dict[str, Any] = {}
    for place in (config.get("rope_parameters"), config.get("rope_scaling"), outside):
        for name, value in (place or {}).items():
            name = _ROPE_NAMES.get(name, name)
            if value is not None and found.setdefault(name, value) != value:
                raise UserError(
                    f"config field {name}={found[name]!r} in one place and {name}={value!r} in "
                    "another (rope_parameters, rope_scaling, the config itself); keep one"
                )
    return found


def _rope_to_hf(rope: Llama3Rope | None) -> dict[str, Any] | None:
    if rope is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_position,
    }


def _refuse(config: Mapping[str, Any]) -> None:
    """Raises if a field asks for something that the forward pass would silently get wrong."""
    found = [(name, config.get(name), neutral) for name, neutral in _NEUTRAL.items()]
    for field, value, neutral in [*found, ("sliding_window", _window(config), (None,))]:
        if field in config and value not in neutral:
            raise UserError(_unsupported(field, value, neutral))


def _window(config: Mapping[str, Any]) -> int | None:
    """The sliding window, if some layer uses one that is shorter than the context."""
    window = config["sliding_window"]
    if window is None or window >= config["max_position_embeddings"]:
        return None
    if config["model_type"] == "mistral":  # its layers have the window, whatever else is said
        return window
    if not config.get("use_sliding_window", True):
        return None
    kinds = config.get("layer_types")
    if kinds:
        return window if "sliding_attention" in kinds else None
    return None if config.get("max_window_layers", 0) >= config["num_hidden_layers"] else window


def _unsupported(field: str, value: Any, supported: Any) -> str:
    choices = ", ".join(str(choice) for choice in supported)
    return f"config field {field}={value!r} is not supported; supported: {choices}"
