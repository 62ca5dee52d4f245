"""How time and memory of each stage of a step grow: with G, K', P, T and the width of the model.

    python benchmarks/growth.py [--repeats 3] [--core 0] [--out docs/results]

The stages are those of `planning.stages`, the functions that train, on inputs of full length:
every rollout and branch decodes to its limit. One size changes at a time, the others stay at
the base (a model of the shape of `tiny`, 4 questions x 8, prompts and responses of 64 tokens,
2 boundaries x 2 draws, 2 latent arms). Memory is what the compiled program allocates beside its
arguments. Writes growth.json, with the exponent between each size and the next (1: as the size,
2: its square), and growth.png (needs the extra `plots`); prints the exponents.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import pathlib
import statistics
import time
from typing import Any

from contest import ONE_THREAD

AXES = {
    "G": (4, 8, 16, 32),
    "K'": (1, 2, 4, 8),
    "P": (64, 128, 256, 512),
    "T": (64, 128, 256, 512),
    "width": (64, 128, 256, 512),
}
BASE = {"G": 8, "K'": 2, "P": 64, "T": 64, "width": 128}
STAGES = ("sampling", "branches", "readout, latent", "update")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--core", type=int, default=0)
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/results"))
    asked = options.parse_args()
    os.environ.update(ONE_THREAD)
    os.sched_setaffinity(0, {asked.core})
    base = measure(BASE, asked.repeats)
    found = {
        axis: {size: base if BASE[axis] == size else measure(BASE | {axis: size}, asked.repeats)
               for size in sizes}
        for axis, sizes in AXES.items()
    }  # fmt: skip
    line = {"base": BASE, "measured": found, "exponents": exponents(found)}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "growth.json").write_text(json.dumps(line, indent=1) + "\n")
    draw(found, asked.out / "growth.png")
    print(json.dumps(line["exponents"]))


def measure(sizes: dict[str, int], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds and MB of each stage."""
    import jax
    from shapes import SHAPES, filled

    from gccpo_jax.training.planning import stages

    programs = stages.of_step(share(sizes))
    found = {}
    for name in STAGES:
        stage = programs[name]
        donated = tuple(range(stage.donated))
        program = jax.jit(stage.run, donate_argnums=donated).lower(*stage.arguments).compile()
        used = program.memory_analysis()
        own = used.temp_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
        seconds = []
        for _ in range(repeats + 1):
            given = filled(stage.arguments, SHAPES["tiny"].vocab_size, sizes["T"])
            inputs = jax.block_until_ready(given)
            start = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            seconds.append(time.perf_counter() - start)
        found[name] = {"seconds": statistics.median(seconds[1:]), "MB": own / 1e6}
    return found


def share(sizes: dict[str, int]) -> Any:
    """What a device has of a config with these sizes."""
    from shapes import SHAPES

    from gccpo_jax.config import default, freeze
    from gccpo_jax.training.planning import stages

    c = default()
    c.batch_size, c.group_size = 4, sizes["G"]
    c.data.max_prompt_tokens, c.sampling.max_tokens = sizes["P"], sizes["T"]
    c.counterfactual.boundaries, c.counterfactual.draws = sizes["K'"], 2
    c.counterfactual.latent_arms, c.counterfactual.surface_arms = 2, 0
    arch = dataclasses.replace(
        SHAPES["tiny"], width=sizes["width"], head_dim=sizes["width"] // 4,
        mlp_width=3 * sizes["width"],
    )  # fmt: skip
    return stages.share_of(freeze(c), arch)


def exponents(found: dict[str, Any]) -> dict[str, Any]:
    """log(cost ratio) / log(size ratio) between neighbouring sizes, by axis, stage and cost."""

    def steps(rows: dict[int, Any], stage: str, cost: str) -> list[float]:
        pairs = zip(rows, list(rows)[1:], strict=False)
        return [
            round(math.log(rows[b][stage][cost] / rows[a][stage][cost]) / math.log(b / a), 2)
            for a, b in pairs
        ]

    return {
        axis: {stage: {cost: steps(rows, stage, cost) for cost in ("seconds", "MB")}
               for stage in STAGES}
        for axis, rows in found.items()
    }  # fmt: skip


def draw(found: dict[str, Any], file: pathlib.Path) -> None:
    """Seconds above, MB below, a column an axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(found), figsize=(3 * len(found), 5.4), sharex="col")
    for column, (axis, rows) in enumerate(found.items()):
        for row, cost in enumerate(("seconds", "MB")):
            panel = panels[row, column]
            for stage in STAGES:
                panel.plot(list(rows), [r[stage][cost] for r in rows.values()], "o-", label=stage)
            first, last = list(rows)[0], list(rows)[-1]
            least = min(rows[first][stage][cost] for stage in STAGES)
            panel.plot([first, last], [least, least * last / first], "k:", label="as the size")
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(list(rows), list(map(str, rows)))
            panel.minorticks_off()
            panel.set_ylabel(cost if column == 0 else "")
            panel.set_xlabel(axis if row else "")
    panels[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
