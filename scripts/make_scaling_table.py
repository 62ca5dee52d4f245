"""The tables of docs/scaling.md: memory per device by model size and mesh.

    python scripts/make_scaling_table.py

Shapes are those of the models' public `config.json`; the run is
`configs/qwen2_5_1_5b_gsm8k.py` (32 questions of 320 tokens, 8 responses of 512, micro-batches of
2 questions, layers recomputed), with micro-batches large enough for the mesh.
"""

from __future__ import annotations

import dataclasses
import pathlib

from gccpo_jax.config import MeshConfig, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy.arch import Arch
from gccpo_jax.runtime.cli import load_config
from gccpo_jax.training.planning.memory import plan

RECIPE = pathlib.Path(__file__).parent.parent / "configs" / "qwen2_5_1_5b_gsm8k.py"
QWEN = {"model_type": "qwen2", "rope_theta": 1e6, "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16"}
QWEN |= {"max_position_embeddings": 32768}
FIELDS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "intermediate_size", "tie_word_embeddings"),
)
SHAPES = {
    "Qwen2.5-0.5B": (151936, 896, 24, 14, 2, 4864, True),
    "Qwen2.5-1.5B": (151936, 1536, 28, 12, 2, 8960, True),
    "Qwen2.5-7B": (152064, 3584, 28, 28, 4, 18944, False),
}
MESHES = ((1, 1, 1), (8, 1, 1), (1, 4, 1), (1, 8, 1), (1, 4, 2), (2, 8, 1))


def shape(name: str, dtype: str) -> Arch:
    """The decoder of a model by its public name."""
    sizes = dict(zip(FIELDS, SHAPES[name], strict=True))
    return Arch.from_hf(QWEN | sizes | {"torch_dtype": dtype})


def main() -> None:
    config = freeze(load_config(str(RECIPE))[0])
    names = "model | mesh | devices | state | caches"
    names += " | sampling | branches | readout | update | peak"
    print(f"| {names} |")
    print("|---|---|" + "---:|" * 8)
    for name in SHAPES:
        for sizes in MESHES:
            mesh = MeshConfig(*sizes)
            micro = max(2, mesh.data * mesh.fsdp)
            optim = dataclasses.replace(config.optim, micro_batch=micro)
            try:
                found = plan(
                    dataclasses.replace(config, mesh=mesh, optim=optim), shape(name, "float32")
                )
            except UserError as error:
                print(f"| {name} | {' x '.join(map(str, sizes))} | {error} |")
                continue
            total = {row.name: row.total for row in found.stages}
            state = sum(row.size for row in found.kept if row.alive == "always")
            caches = next(row.size for row in found.kept if row.name.startswith("caches"))
            stages = (total[n] for n in ("sampling", "branches", "readout, latent", "update"))
            cells = (f"{x / 2**30:.1f}" for x in (state, caches, *stages))
            where = f"{found.peak.total / 2**30:.1f} ({found.peak.name})"
            count = mesh.data * mesh.fsdp * mesh.tensor
            row = [name, " x ".join(map(str, sizes)), str(count), *cells, where]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
