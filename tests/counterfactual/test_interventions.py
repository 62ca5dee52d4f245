"""The table of interventions agrees with the configuration that asks for them."""

import dataclasses

import pytest

from gccpo_jax.config import CounterfactualConfig
from gccpo_jax.counterfactual.interventions import INTERVENTIONS, NUMBER
from gccpo_jax.tasks import bare_task

FAMILIES = {
    field.name: field.metadata["family"]
    for field in dataclasses.fields(CounterfactualConfig)
    if "family" in field.metadata
}


def test_every_row_has_a_field_of_its_family_and_every_field_a_row():
    rows = {f"{row.name}_arms": row.family.value for row in INTERVENTIONS if row is not NUMBER}
    assert rows == FAMILIES


@pytest.mark.parametrize("row", INTERVENTIONS, ids=lambda row: row.name)
def test_a_row_is_read_by_a_known_mechanism_and_knows_what_it_needs(row):
    assert row.reads in ("cache", "site", "text")
    assert row.asked(dataclasses.replace(CounterfactualConfig(), **{f"{row.name}_arms": 3})) == 3
    assert row.possible(bare_task("chain"))
    assert row.possible(bare_task("math")) == (row.needs == "" or row.needs == "corrupt")
