"""What is fuzzed: how an input is made, and what is done with it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from functools import partial
from typing import Any

import fuzz_inputs as make
import numpy as np
from fuzz_inputs import Run, Target
from fuzz_models import GGUF, SAFETENSORS

CHAIN_STEPS = "Ana 3 + 4 = 7 pens\nAna 7 - 2 = 5 pens\n#### 5"
SAMPLES = {
    "chain": (CHAIN_STEPS, "Now we count .\nAna has 7 pens\n#### - 12", "#### 007"),
    "gsm8k": ("1. He has 2*3=6.\n2. So $1,200.50.\n#### 1,200", r"so \boxed{7}, 8", "it is -9.5."),
    "math": (
        *(
            r"Then \boxed{\frac{1}{2}}",
            r"\boxed{\left( 3, \frac{\pi}{2} \right)}",
            r"\boxed{x^2+1}",
        ),
        *(r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", r"\boxed{[0, 1) \cup \{2\}}"),
        *(r"\boxed{1,2,3}", r"\boxed{3\sqrt{2} + 5i}", r"\boxed{\text{yes}}", r"\boxed{x \leq 5}"),
    ),
}
GOLDS = {
    "chain": ("5", "0", "-3"),
    "gsm8k": ("72", "-5", "1200"),
    "math": (
        r"\frac12",
        r"\left( 3, \frac{\pi}{2} \right)",
        "x^2+1",
        "10",
        r"[0,1]",
        r"\text{yes}",
    ),
}
QUESTION = "Natalia and Tom sold 48 clips in April . How many ?"
QUESTIONS = (
    {"question": "What is 2 + 3?", "answer": "5", "solution": "2 + 3 = 5", "id": "a"},
    {"problem": "How far?", "answer": r"so \boxed{\frac12}"},
    {"question": "How many?", "answer": "He has 2*3=<<2*3=6>>6.\n#### 6", "id": 7},
)
LABELLED = (
    {"id": "gsm8k-0", "problem": "1 + 1?", "steps": ["1 + 1", "= 3"], "label": 1},
    {"question": "q", "steps": ["a", "b", "c"], "labels": [1, 0, -1], "answer": "5"},
    {"question": "q", "steps": ["a", "b"], "labels": ["+", "-"]},
    {"question": "q", "steps": [], "label": -1},
)
MATH_SECONDS = 0.5


def _answers(name: str) -> Target:
    def one(rng: np.random.Generator) -> tuple[int, str]:
        return int(rng.integers(100)), make.hostile(rng, SAMPLES[name])

    def open_task(_: pathlib.Path) -> Run:
        from gccpo_jax.counterfactual.candidates import candidates_of
        from gccpo_jax.policy.tokenizer import load_tokenizer
        from gccpo_jax.sampling.outcomes import outcomes
        from gccpo_jax.tasks.base import Item
        from gccpo_jax.tasks.chain.suite import ChainConfig, chain
        from gccpo_jax.tasks.gsm8k import of_splits as gsm8k
        from gccpo_jax.tasks.open_math import of_splits as math

        task = {
            "chain": lambda: chain(ChainConfig(train=4, id=4, ood=1)),
            "gsm8k": lambda: gsm8k({}),
            "math": lambda: math({}, deadline_seconds=MATH_SECONDS),
        }[name]()
        tokenizer = load_tokenizer("tiny")
        items = [Item(n, QUESTION, gold) for n, gold in enumerate(GOLDS[name])]
        items = list(task.splits.get("train", items))

        def run(value: tuple[int, str]) -> None:
            number, text = value
            item = items[number % len(items)]
            scores = outcomes(task, [item], np.array([[text]], object))
            assert np.isnan(scores).all() or 0 <= scores[0, 0] <= 1, scores
            if number % 4 == 0 and text.isascii():  # what a tokenizer decodes is never half a pair
                texts = np.array([[text, text[: len(text) // 2]]], object)
                candidates_of(task, tokenizer, [item], texts, count=3, max_tokens=8)
            _rewrite(task, item, text.split("\n"), np.random.default_rng(number))

        return run

    return Target({"chain": 1500, "gsm8k": 1500, "math": 1000}[name], one, open_task)


def _rewrite(task: Any, item: Any, steps: list[str], rng: np.random.Generator) -> None:
    for rewrite in (task.surface, task.number):
        assert not rewrite or (found := rewrite(item, steps, rng)) is None or len(found) == 2
    if task.check:
        assert len(task.check(item, steps)) == len(steps)
    for step in steps[:20]:
        assert task.corrupt(step, rng) != step


def _steps() -> Target:
    longest, most, vocabulary = 96, 8, 104  # the tiny policy has 104 rows, its tokenizer fewer

    def one(rng: np.random.Generator) -> tuple[list[int], int, int, int]:
        sizes = (int(rng.integers(5)), int(rng.integers(3)), int(rng.integers(10)))
        return make.token_ids(rng, vocabulary, longest), *sizes

    def open_steps(_: pathlib.Path) -> Run:
        import jax

        from gccpo_jax.counterfactual.candidates import answer_start
        from gccpo_jax.policy.tokenizer import load_tokenizer
        from gccpo_jax.sampling.outcomes import step_texts
        from gccpo_jax.steps import find_steps, merge_steps, read_boundaries, step_of_token
        from gccpo_jax.tasks.chain.suite import ChainConfig, chain

        task = chain(ChainConfig(train=4, id=4, ood=1))
        tokenizer = load_tokenizer("tiny")
        ends = tokenizer.ids_where(lambda piece: "\n" in piece, vocabulary)

        def segment(low, high, boundary, length, key):
            found = find_steps(boundary, length, max_steps=most, min_tokens=low, max_tokens=high)
            macro = merge_steps(found, read_boundaries(key, found, 3, 0.5), most)
            return found, macro, step_of_token(found, longest)

        cut = [jax.jit(partial(segment, *sizes)) for sizes in ((1, 0), (2, 0), (4, 1))]
        for function in cut:
            function(np.zeros(longest, bool), np.int32(0), jax.random.key(0))
        keys = [jax.random.key(n) for n in range(10)]

        def run(value: tuple[list[int], int, int, int]) -> None:
            ids, more, kind, key = value
            tokens = np.zeros(longest, np.int32)
            tokens[: len(ids)] = ids
            found = cut[kind](ends[tokens], np.int32(len(ids)), keys[key])
            spans, macro, owner = jax.device_get(found)
            for part in (spans, macro):
                lengths = (part.end - part.start)[part.mask]
                assert lengths.sum() == len(ids) and (lengths > 0).all(), part
            assert (owner[: len(ids)] < most).all() and (owner[len(ids) :] == most).all()
            starts, stops = spans.start[spans.mask], spans.end[spans.mask]
            steps = step_texts(tokenizer, tokens, starts, stops)
            text = tokenizer.decode(tokens[: len(ids)], skip_special=True)
            assert 0 <= answer_start(task, tokenizer, tokens[: len(ids)], text) <= len(ids)
            _rewrite(task, task.splits["train"][more % 4], steps, np.random.default_rng(key))

        return run

    return Target(1000, one, open_steps)


def _config() -> Target:
    def fields() -> list[str]:
        from gccpo_jax.config import Config

        def walk(cls: Any, path: str) -> list[str]:
            rows = [(field, f"{path}{field.name}") for field in dataclasses.fields(cls)]
            nested = [(f.default_factory, p) for f, p in rows if callable(f.default_factory)]
            inner = [
                p for cls, p in nested if dataclasses.is_dataclass(cls) for p in walk(cls, p + ".")
            ]
            return [p for _, p in rows] + inner

        return walk(Config, "")

    def one(rng: np.random.Generator) -> list[Any]:
        return (make.arguments if rng.random() < 0.6 else make.settings)(rng, fields())

    def open_config(_: pathlib.Path) -> Run:
        from gccpo_jax.config import Config, default, freeze
        from gccpo_jax.runtime.cli import overrides, set_field
        from gccpo_jax.tasks import _checked
        from gccpo_jax.tasks.chain.suite import ChainConfig

        plain = dataclasses.asdict(Config())

        def run(found: list[Any]) -> None:
            config = default()
            if found and isinstance(found[0], str):
                for path, text in overrides(found):
                    set_field(config, path, text)
            else:
                config = json.loads(json.dumps(plain))
                for path, row in found:
                    section = config
                    *parts, name = path.split(".")
                    for part in parts:
                        section = section[part] if isinstance(section.get(part), dict) else {}
                    section[name] = make.VALUES[row]
            options = freeze(config).task.options
            ChainConfig(**_checked("chain", ChainConfig, options))

        return run

    return Target(1500, one, open_config)


def _rows(name: str, rows: tuple[dict[str, Any], ...], inputs: int) -> Target:
    def open_rows(folder: pathlib.Path) -> Run:
        from gccpo_jax.analysis.labelled import read_labelled
        from gccpo_jax.tasks import gsm8k
        from gccpo_jax.tasks import open_math as math
        from gccpo_jax.tasks.files import read_records

        def run(_: bytes) -> None:
            path = str(folder / "rows.jsonl")
            if name == "labelled":
                for row in read_labelled(path):
                    assert row.earliest_error is None or row.earliest_error >= -1
                return
            for number, record in enumerate(read_records(path, "train")):
                math.to_item(record, number)
                gsm8k.to_item(record, number)

        return run

    return Target(
        inputs, lambda rng: make.json_lines(rng, rows), open_rows, lambda data: {"rows.jsonl": data}
    )


TARGETS = {
    **{name: _answers(name) for name in SAMPLES},
    "steps": _steps(),
    "config": _config(),
    "questions": _rows("questions", QUESTIONS, 1000),
    "labelled": _rows("labelled", LABELLED, 1000),
    "gguf": GGUF,
    "safetensors": SAFETENSORS,
}
