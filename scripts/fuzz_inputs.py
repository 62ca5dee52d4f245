"""Hostile inputs, each a function of a random generator: text, token ids, arguments, rows."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Data = TypeVar("Data", str, bytes)
Run = Callable[[Any], None]
"""Uses an input; a `UserError` or an end without one are the only ways out."""


class Target(NamedTuple):
    """Part of the package that reads what others wrote."""

    inputs: int  # of 10,000
    make: Callable[[np.random.Generator], Any]
    open: Callable[[pathlib.Path], Run]  # gets a folder for files; imports and compiles
    files: Callable[[Any], dict[str, bytes]] = lambda _: {}  # written into the folder beforehand


BOMBS = (
    *("9**9**9**9", "9^{9^{9^{9}}}", "10^{10^{10}}!", r"\binom{10^9}{5 \cdot 10^8}", "99999999!!"),
    *("(x+y+z)^{9999}", r"\int_0^1 x^{x^x} dx", r"\sum_{n=1}^{10^{12}} \frac{1}{n}", "1e999999999"),
    *(r"\prod_{i=1}^{10^9} i", r"\lim_{x \to 0} \frac{\sin x^{99}}{x^{99}}", r"\sqrt[99999]{2}"),
    *(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}^{99999}", "2^{2^{2^{2^{2^{2}}}}}", "7!!!!!!"),
    *("__import__('os').system('touch x')", "eval('1')", "open('x', 'w')", r"\input{/etc/passwd}"),
    *(r"\write18{ls}", "<script>", "${HOME}", "$(reboot)", "; rm -rf x", "%s%s%n", "' OR 1=1 --"),
    *("{{7*7}}", "\x00", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "\u0661\u0662", "\u00b2"),
    *("NaN", "-inf", "1" * 400, "9" * 5000, "-0", "1_000", "0x10", "1e-400", "true", "null"),
    *("#### ", "####", r"\boxed{", r"\boxed{}", "<answer>", "</answer>", "}", "{", "$", "$$", "\\"),
    *("x = y = 3", r"\{1, 2, 3\} \cup (0, \infty)", r"x \in \mathbb{R}", r"\text{5 cm}^2", "50\\%"),
)
OPENERS = (
    *("(", "{", "[", r"\frac{", r"\sqrt{", r"\left(", r"\boxed{", r"\text{", "-", "1+", "x^{", "!"),
    *(" ", "\n", ",", "1,", "1 ", "#", "*", "$", r"\\", r"\boxed ", "1^", r"\frac{1}{", "a ", "= "),
    *("Ana 3 + 4 = 7 pens\n", "3 + ", "{'a':", "[1,", '{"a":', "0", "9", "\u0301", "\U0001f600"),
)
FRAMES = ("{}", r"\boxed{{{}}}", "#### {}", "The answer is {}", "${}$", "1. so {}\n#### 3", "= {}")
WORDS = (
    *("3", "-7", "1,200", "0.5", r"\frac{1}{2}", r"\pi", "x", "+", "- ", "=", "(", ")", "{", "}"),
    *("pens", "Ana", "\n", " ", "^", "_", r"\sqrt", r"\cdot", r"\left(", r"\right)", "&", r"\\"),
    *(r"\boxed{", "#### ", "%", r"\leq", r"\infty", ",", ".", r"\cup", "[", "]", "!", "|", r"\sin"),
)


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """One of them."""
    return options[int(rng.integers(len(options)))]


def size(rng: np.random.Generator, most: int) -> int:
    """A length up to `most`, short ones as likely as long ones."""
    return int(most ** rng.random())


def noise(rng: np.random.Generator, most: int) -> str:
    """Random characters: ASCII, all of Unicode with lone surrogates, or bytes as Latin-1."""
    low, high = pick(rng, ((32, 127), (0, 0x110000), (0, 256), (0, 32), (0xD7F0, 0xE010)))
    return "".join(map(chr, rng.integers(low, high, size(rng, most))))


def mutated(rng: np.random.Generator, data: Data, snippets: Sequence[Data]) -> Data:
    """A few changes: cut, cut off, repeat, move, or put a snippet in."""
    for _ in range(size(rng, 6)):
        a, b = sorted(map(int, rng.integers(0, len(data) + 1, 2)))
        change = rng.integers(5)
        if change == 0:
            data = data[:a] + data[b:]
        elif change == 1:
            data = data[:b]
        elif change == 2:
            data = data[:a] + data[a:b] * min(size(rng, 300), 1 + 50_000 // (b - a + 1)) + data[b:]
        elif change == 3:
            data = data[b:] + data[a:b] + data[:a]
        else:
            data = data[:a] + pick(rng, snippets) + data[pick(rng, (a, b)) :]
    return data[:200_000]


def flipped(rng: np.random.Generator, data: bytes, within: int) -> bytes:
    """Some bytes among the first `within` replaced, by any or by those of huge numbers."""
    found = np.frombuffer(data, np.uint8).copy()
    for place in rng.integers(0, max(1, min(within, len(found))), size(rng, 8)):
        wide = size(rng, 9)
        found[place : place + wide] = pick(rng, (0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))))
    return found.tobytes()


def nest(rng: np.random.Generator) -> str:
    """One opening many times, perhaps around something, perhaps closed."""
    opener = pick(rng, OPENERS)
    count = size(rng, 20_000)
    closer = {"(": ")", "[": "]", "{": "}"}.get(opener[-1], "")
    return opener * count + pick(rng, ("", "1", "x")) + closer * pick(rng, (0, 1, count))


def hostile(rng: np.random.Generator, samples: Sequence[str]) -> str:
    """A text: noise, a bomb, a nest, a soup of words, or a sample of the real thing, changed."""
    kind = rng.integers(10)
    if kind < 2:
        found = noise(rng, 3000)
    elif kind == 2:
        found = pick(rng, BOMBS)
    elif kind == 3:
        found = nest(rng)
    elif kind < 6:
        found = "".join(pick(rng, WORDS) for _ in range(size(rng, 80)))
    else:
        found = mutated(rng, pick(rng, samples), (*BOMBS, *WORDS))
    return pick(rng, FRAMES).format(found) if rng.random() < 0.6 else found


def token_ids(rng: np.random.Generator, vocabulary: int, longest: int) -> list[int]:
    """Token ids of a response, as sampled: any row of the embedding, often a few only."""
    few = rng.integers(0, vocabulary, size(rng, vocabulary))
    return rng.choice(few, int(rng.integers(0, longest + 1))).tolist()


VALUES = (
    *(
        None,
        "",
        "x",
        b"x",
        [],
        {},
        (),
        {"a": 1},
        [1],
        True,
        False,
        0,
        1,
        -1,
        2,
        10**18,
        10**400,
        10**5000,
    ),
    *(0.0, -0.0, 0.5, 1.0, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 1j),
    *(
        "inf",
        "nan",
        "\ud800",
        "\x00",
        "a:b",
        "1e5",
        object,
        len,
        {"optim": {}},
        2**31,
        2**32,
        2**63,
    ),
)
TEXTS = ("1", "0", "-1", "1.5", "1e400", "nan", "inf", "true", "x:y", "[[1]]", "{[]: 1}", "{1, 2}")


def arguments(rng: np.random.Generator, fields: Sequence[str]) -> list[str]:
    """Overrides as on the command line; most name a field that is there."""
    found = []
    for _ in range(size(rng, 6)):
        path = pick(rng, fields) if rng.random() < 0.8 else "task.options"
        if path == "task.options":
            path += "." + pick(rng, ("train", "id", "seed", "a.b", "", "labelled", noise(rng, 9)))
        path = mutated(rng, path, (".", "..", "\n", "__class__")) if rng.random() < 0.15 else path
        value = pick(rng, TEXTS) if rng.random() < 0.6 else hostile(rng, TEXTS)
        equals = pick(rng, ("=", "=", "=", "", "=="))
        found += [f"--config.{path}{equals}{value}"] if rng.random() < 0.9 else [value]
    return found


def settings(rng: np.random.Generator, fields: Sequence[str]) -> list[tuple[str, int]]:
    """Fields of a config file, and the row of `VALUES` that each is set to."""
    return [(pick(rng, fields), int(rng.integers(len(VALUES)))) for _ in range(size(rng, 5))]


def value(rng: np.random.Generator, depth: int = 0) -> Any:
    """Something that JSON can say."""
    kind = rng.integers(9 if depth < 4 else 6)
    if kind < 3:
        return hostile(rng, WORDS)
    if kind < 6:
        return pick(rng, (None, True, False, 0, 1, -1, 10**30, 1e308, float("nan"), "+", "valid"))
    if kind < 8:
        return [value(rng, depth + 1) for _ in range(size(rng, 5))]
    return {hostile(rng, WORDS): value(rng, depth + 1) for _ in range(size(rng, 4))}


NAMES = ("question", "problem", "answer", "solution", "id", "steps", "label", "labels", "extra")


def json_lines(rng: np.random.Generator, rows: Sequence[dict[str, Any]]) -> bytes:
    """A JSON Lines file of rows with some fields wrong, then perhaps its bytes as well."""
    lines = []
    for _ in range(size(rng, 8)):
        row = dict(pick(rng, rows))
        for _ in range(int(rng.integers(3))):
            row[pick(rng, NAMES)] = value(rng)
        if rng.random() < 0.2:
            row.pop(pick(rng, sorted(row)))
        lines.append(json.dumps(row, ensure_ascii=rng.random() < 0.5))
    if rng.random() < 0.1:
        lines.append(pick(rng, ("[", '{"a":', '{"question":')) * size(rng, 100_000))
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    snippets = (b"\x00", b"\xff", b"\n", b"}", b'"', b"\\ud800", b"9" * 5000, b"\xef\xbb\xbf", b"[")
    return mutated(rng, data, snippets) if rng.random() < 0.5 else data


def damaged(rng: np.random.Generator, data: bytes, header: int) -> bytes:
    """A binary file whose header lies, or that is cut, longer, or noise."""
    kind = rng.integers(8)
    if kind < 5:
        return flipped(rng, data, header if rng.random() < 0.9 else len(data))
    if kind == 5:
        return data[: size(rng, len(data))]
    if kind == 6:
        return mutated(rng, data, (b"\x00" * 8, b"\xff" * 8, b"GGUF", b"{}"))
    return rng.bytes(size(rng, 5000))
