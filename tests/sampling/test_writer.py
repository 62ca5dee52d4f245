"""A chat model that writes: a function of the words, the question's id and the wording's number."""

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.sampling.writer import open_writer
from tests.helpers.paths import ROOT

GOLDEN = ROOT / "tests" / "golden_scorers"


def test_what_is_written_is_a_function_of_its_arguments():
    write = open_writer(str(GOLDEN / "prm_tokens"), tokens=8)
    first = write("Ann has 3 apples.", 5, 0)
    assert first and write("Ann has 3 apples.", 5, 0) == first
    assert len({first, write("Ann has 3 apples.", 5, 1), write("Ann has 3 apples.", 6, 0)}) == 3
    assert write("Ann has 3 apples. " * 400, 5, 0) == "", "no room for an answer"


def test_what_is_no_writer_is_said():
    with pytest.raises(UserError, match="a model with a head writes nothing"):
        open_writer(str(GOLDEN / "prm_head"))
