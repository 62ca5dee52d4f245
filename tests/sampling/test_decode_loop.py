"""The compiled loop that decodes makes nothing as large as a cache or a matrix of weights.

A copy of either would cost as much memory traffic per token as the products of weights do. What
the loop may do with a cache is write a token into it, in place.
"""

import dataclasses
import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from gccpo_jax.policy import model
from gccpo_jax.policy.arch import Arch
from gccpo_jax.policy.token_law import Rule
from gccpo_jax.sampling.rollouts import sample_whole
from gccpo_jax.types import Prompts

S, T, V = 64, 60, 61
ARCH = Arch(V, width=64, depth=2, heads=4, kv_heads=2, head_dim=32, mlp_width=96)
LEAST = ARCH.width * ARCH.kv_heads * ARCH.head_dim  # elements of the smallest matrix
CACHE = f"{ARCH.kv_heads},{T},{ARCH.head_dim}]"  # a row's keys or values of a layer
MOVES_NOTHING = {"parameter", "get-tuple-element", "tuple", "bitcast"}
LINE = re.compile(r"(?:ROOT )?%?[\w.\-]+ = \w+\[([\d,]*)\]\S* ([\w\-]+)\(")


def compiled(policy, B, G):
    """The optimised program of sampling."""
    shape = jax.ShapeDtypeStruct
    params = jax.eval_shape(lambda: model.init(ARCH, jax.random.key(0)))
    ids = shape((B,), jnp.uint32)
    prompts = Prompts(shape((B, S), jnp.int32), shape((B, S), bool), ids)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), B))
    run = partial(sample_whole, policy, group=G, rule=Rule(), max_tokens=T)
    return jax.jit(run).lower(params, prompts, keys, shape((V,), bool)).compile().as_text()


def computations(text):
    """The lines of each computation of a program, by its name."""
    found, lines = {}, []
    for line in text.splitlines():
        if head := re.match(r"(?:ENTRY )?%?([\w.\-]+) .*->.*\{$", line):
            lines = found[head[1]] = []
        elif line.startswith("  "):
            lines.append(line.strip())
    return found


def large(text):
    """The decode loop's operations whose results have at least `LEAST` elements."""
    all_lines = computations(text)
    bodies = set(re.findall(r"body=%?([\w.\-]+)", text))
    waiting = [name for name in bodies if any(CACHE in line for line in all_lines[name])]
    assert waiting, "a loop decodes"
    found, seen = [], set()
    while waiting:
        if (name := waiting.pop()) in seen:
            continue
        seen.add(name)
        for line in all_lines[name]:
            called = re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", line)
            waiting += called
            parts = LINE.match(line)
            if not parts or math.prod(map(int, filter(None, parts[1].split(",")))) < LEAST:
                continue
            if parts[2] != "fusion":  # what a fusion is made of says what it does
                found.append((parts[2], f"[{parts[1]}]"))
    return [one for one in found if one[0] not in MOVES_NOTHING]


@pytest.fixture(scope="module")
def policy():
    if jax.default_backend() != "cpu":
        pytest.skip("the program of a CPU")
    return model.make_policy(ARCH)


@pytest.mark.parametrize(
    "B, G, rows", [(2, 3, "2,3,"), (4, 1, "4,"), (1, 4, "4,")], ids=["both", "questions", "group"]
)
def test_the_decode_loop_writes_tokens_into_caches_and_copies_none(policy, B, G, rows):
    found = large(compiled(policy, B, G))
    assert found == [("dynamic-update-slice", f"[{rows}{CACHE}")] * (2 * ARCH.depth)


def test_copies_of_caches_and_of_weights_would_be_seen(policy):
    """Without a decoder of one token, caches are joined over layers and weights taken apart."""
    found = large(compiled(dataclasses.replace(policy, decoder=None), 2, 3))
    assert ("concatenate", f"[{ARCH.depth},2,3,{CACHE}") in found
    assert ("dynamic-slice", f"[1,{ARCH.width},{ARCH.mlp_width}]") in found
