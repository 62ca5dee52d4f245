"""The numbers of docs/method.md that no other test pins are what the code gives."""

import pathlib
import re

import pytest

from gccpo_jax import cost
from gccpo_jax.training.planning.tokens import (
    Sizes,
    chain,
    continued,
    contrast,
    latent,
    replaced,
    surface,
    written,
)
from tests.helpers import oracles_abduction as exact
from tests.helpers.paths import ROOT

PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
SIZES = Sizes(steps=8, tokens=256, prompt=64, branch=112, candidates=6, answer=8)
COSTS = {
    "readout chain": chain(SIZES),
    "delete": 0,
    "latent": latent(SIZES, 4),
    "swap, corrupt; equivalent, resample once decoded": replaced(SIZES, 4),
    "decoding those two": written(SIZES, 4),
    "surface, all steps": surface(SIZES, 2),
    "surface, answer step only": surface(SIZES, 2, read=1),
    "Phi at every step, N = 4": continued(SIZES, 8, 4),
    "Phi at K' = 2 boundaries, N = 2": continued(SIZES, 2, 2),
    "total-effect audit, N = 4": contrast(SIZES, 4, 4),
}


def test_the_cost_table():
    table = PAGE.split("<!-- cost:example -->")[1].strip().split("\n\n")[0].splitlines()[2:]
    rows = [re.fullmatch(r"\| (.+?) \| .+ \| ([\d.]+) \|", line).groups() for line in table]
    assert dict(rows) == {name: f"{tokens / 256:.2f}" for name, tokens in COSTS.items()}
    assert f"= {SIZES.branch:.0f}` on average" in TEXT


def test_the_flip_rates():
    p, q = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2)
    low, high = exact.flip_bounds(p, q)
    assert f"that is [{low:.1f}, {high:.1f}]".replace("0.", ".") in TEXT
    assert f"flips {1 - exact.same_token(p, q):.3f}".replace("0.", ".") in TEXT
    uniforms = [(n + 0.5) / 1000 for n in range(1000)]
    parted = sum(exact.inverse_cdf(p, u) != exact.inverse_cdf(q, u) for u in uniforms)
    assert parted / 1000 == pytest.approx(0.3)
    independent = 1 - sum(a * b for a, b in zip(p, q, strict=True))
    assert independent == pytest.approx(0.57)
    assert "the inverse CDF .3, independent arms .57" in TEXT


def test_every_module_it_names_exists():
    package = pathlib.Path(cost.__file__).parent
    for name in sorted(set(re.findall(r"`([\w/]+)\.py`", PAGE))):
        found = package.parent / f"{name}.py" if name.startswith("tests/") else None
        assert found.is_file() if found else list(package.rglob(f"{name}.py")), name
