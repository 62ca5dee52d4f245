"""A policy as a folder that other programs read: safetensors, tokenizer, model card, maybe GGUF.

    python -m gccpo_jax.export runs/a --out DIR [--dtype bfloat16] [--gguf Q8_0]

RUN is the folder of a finished run, whose card says how the policy was made, or any model that
`policy.path` may name, which gets no card. DIR is what `transformers`, vLLM and this package load:
weights in files of at most 5 GB, config.json, tokenizer, chat template, generation_config.json.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from gccpo_jax.errors import UserError, exit_code
from gccpo_jax.policy import gguf_write, weights
from gccpo_jax.policy.arch import DTYPES
from gccpo_jax.policy.tokenizer import check_vocab, load_tokenizer
from gccpo_jax.runtime.cli import check_ranges, command_parser
from gccpo_jax.runtime.workdir import output_path, write_text, writing
from gccpo_jax.training.card import card

UNSTATED = "other"
"""What Hugging Face calls a licence that its list does not have, or that nobody stated."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = command_parser("export", __doc__)
    out.add_argument("run", metavar="RUN", help="folder of a run, or a model")
    out.add_argument("--out", required=True, help="folder to be made; an earlier model is replaced")
    out.add_argument("--dtype", choices=DTYPES, help="of the weights (default: as they are)")
    out.add_argument("--gguf", choices=gguf_write.KINDS, help="a .gguf file in the folder as well")
    out.add_argument("--shard-gb", type=float, default=5.0, help="largest file of weights, in GB")
    out.add_argument("--licence", default=UNSTATED, help="of the weights, as Hugging Face names it")
    out.add_argument(
        "--evaluation", nargs="+", default=[], metavar="DIR", help="of evaluate, for the card"
    )
    out.add_argument("--data-licence", default="not stated", help="of the training data")
    return out


def run_command(argv: Sequence[str]) -> pathlib.Path:
    """Exports; the folder.

    Raises:
      UserError: no such run or model, or a place that holds something else.
    """
    a = parser().parse_args(argv)
    check_ranges(a, {"shard_gb": 1e-6})
    source = pathlib.Path(a.run).expanduser()
    is_run = (source / "policy").is_dir()
    if not is_run and (source / "checkpoints").is_dir():
        raise UserError(f"{source}: a run without policy/, which comes at its end; finish it")
    model = source / "policy" if is_run else a.run
    out = output_path(a.out)
    typed = shlex.join(["python", "-m", "gccpo_jax.export", *argv])
    evaluations = [pathlib.Path(folder).expanduser() for folder in a.evaluation]
    if evaluations and not is_run:
        raise UserError(f"--evaluation: {a.run} is no run, so it gets no card; leave it out")
    text = card(source, a.licence, a.data_licence, typed, evaluations) if is_run else ""
    tokenizer = load_tokenizer(model)
    arch, params = weights.load(model, a.dtype)
    check_vocab(arch, tokenizer)
    with writing("the model", out):
        weights.save(
            out,
            arch,
            params,
            tokenizer,
            generation=generation_of(source) if is_run else {},
            shard_bytes=int(a.shard_gb * 1e9),
        )
        if text:
            write_text(out / "README.md", text)
        if a.gguf:
            file = out / f"model-{a.gguf}.gguf"
            if not gguf_write.save_gguf(file, arch, params, tokenizer, a.gguf):
                print(f"{file}: llama.cpp has no tokenizer of this kind; this package reads it")
    print(f"written: {out}")
    return out


def generation_of(run: pathlib.Path) -> dict[str, Any]:
    """How the policy of a run was sampled, as fields of `generation_config.json`."""
    sampling = json.loads((run / "config.json").read_text(encoding="utf-8"))["sampling"]
    found = {"do_sample": True, "temperature": sampling["temperature"]}
    found |= {"top_k": sampling["top_k"], "top_p": sampling["top_p"]}
    return found | {"max_new_tokens": sampling["max_tokens"]}


def main(argv: Sequence[str]) -> int:
    """Runs the command; its exit code."""
    return exit_code(lambda: run_command(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
