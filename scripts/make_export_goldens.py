"""Makes `tests/data/export_answers.json`: what PyTorch answers with exported models, greedily.

Run it in an environment of its own (the package and its tests never need PyTorch):

    pip install -e . && pip install torch peft
    PYTHONPATH=. python scripts/make_export_goldens.py

The shipped tiny policy is exported by `python -m gccpo_jax.export` as it is, in bfloat16 and with
adapters merged (`adapted`), each folder is loaded by the `Auto` classes of transformers, and
generates from questions of the chain suite. `tests/whole/test_export.py` asks the same folders the
same questions in JAX. With adapters the `peft` library must say the same from their own folder.
"""

from __future__ import annotations

import json
import pathlib
import tempfile

import peft
import torch
import transformers

from gccpo_jax import export
from gccpo_jax.tasks.chain.suite import ChainConfig, chain
from tests.helpers.adapted import adapted

FILE = pathlib.Path(__file__).resolve().parents[1] / "tests" / "data" / "export_answers.json"
TASK = chain(ChainConfig(train=40, id=6, ood=4, max_operations=3))
NEW_TOKENS = 40


def answers(folder: str, adapter: str = "") -> list[str]:
    """Greedy answers to the held-out questions, in the dtype that the folder says."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    if adapter:
        model = peft.PeftModel.from_pretrained(model, adapter)
    texts = []
    for item in TASK.splits["id"]:
        ids = tokenizer(TASK.prompt(item), return_tensors="pt", add_special_tokens=False)
        found = model.generate(
            ids["input_ids"],
            attention_mask=ids["attention_mask"],
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
        )
        new = found[0, ids["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True))
    return texts


def main() -> None:
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    found["peft"] = peft.__version__
    for dtype in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = str(export.run_command(["tiny", "--out", f"{scratch}/m", "--dtype", dtype]))
            found[dtype] = answers(folder)
            if dtype == "float32":
                adapted(scratch)
                found["adapted"] = answers(f"{scratch}/merged")
                beside = answers(folder, f"{scratch}/adapter")
                assert beside == found["adapted"] != found["float32"], (beside, found)
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
