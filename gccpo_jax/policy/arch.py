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
            _refuse(config)
            return cls(**_sizes(config), **_switches(config))
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
    heads = config["num_attention_heads"]
    return {
        "vocab_size": config["vocab_size"],
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "mlp_width": config["intermediate_size"],
        "max_positions": config.get("max_position_embeddings", 2048),
    }


def _switches(config: Mapping[str, Any]) -> dict[str, Any]:
    family = config["model_type"]
    bias = bool(config.get("attention_bias", False))
    dtype = config.get("torch_dtype") or config.get("dtype") or "float32"
    theta, scaling = _rope(config)
    return {
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": float(config.get("rms_norm_eps", 1e-6)),
        "tied": bool(config.get("tie_word_embeddings", False)),
        "qkv_bias": bias or family == "qwen2",
        "out_bias": bias and family != "qwen2",
        "qk_norm": family == "qwen3",
        "family": family,
        "dtype": "float32" if dtype == "float16" else dtype,
    }


def _rope(config: Mapping[str, Any]) -> tuple[float, Llama3Rope | None]:
    """Base and scaling, from `rope_parameters` (transformers 5) or the two older fields."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UserError(_unsupported("rope_scaling.rope_type", kind, ("default", "llama3")))
    scaling = Llama3Rope(
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        int(rope["original_max_position_embeddings"]),
    )
    return theta, scaling


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
    rope = config.get("rope_parameters") or {}
    found = {
        "model_type": (config.get("model_type"), FAMILIES),
        "hidden_act": (config.get("hidden_act", "silu"), ("silu",)),
        "mlp_bias": (bool(config.get("mlp_bias", False)), (False,)),
        "quantization_config": (config.get("quantization_config"), (None,)),
        "partial_rotary_factor": (
            rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0,
            (1.0,),
        ),
        "sliding_window": (_window(config), (None,)),
    }
    for field, (value, supported) in found.items():
        if value not in supported:
            raise UserError(_unsupported(field, value, supported))


def _window(config: Mapping[str, Any]) -> int | None:
    """The sliding window, if some layer uses one that is shorter than the context."""
    window = config.get("sliding_window")
    if window is None or not config.get("use_sliding_window", True):
        return None
    kinds = config.get("layer_types")
    if kinds and "sliding_attention" not in kinds:
        return None
    if not kinds and config.get("max_window_layers", 0) >= config.get("num_hidden_layers", 1):
        return None
    return None if window >= config.get("max_position_embeddings", 0) else window


def _unsupported(field: str, value: Any, supported: Any) -> str:
    choices = ", ".join(str(choice) for choice in supported)
    return f"config field {field}={value!r} is not supported; supported: {choices}"
