"""What is checked when a run is opened: the chat template, the weights."""

import types

import numpy as np
import pytest

from gccpo_jax import train
from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.policy import weights
from gccpo_jax.training import session as session_file
from gccpo_jax.training.session import open_session


@pytest.mark.parametrize(
    ("field", "value"), [("template", {"enable_thinking": False}), ("date", "2031-02-03")]
)
def test_fields_of_a_chat_template_are_refused_where_there_is_none(field, value):
    config = default()
    config.data[field] = value
    with pytest.raises(UserError, match=f"config.data.*{field}"):
        open_session(freeze(config))


def test_weights_that_are_not_finite_are_refused(monkeypatch):
    load = weights.load

    def damaged(*arguments):
        arch, params = load(*arguments)
        return arch, params | {"norm": params["norm"].at[3].set(float("inf"))}

    monkeypatch.setattr(weights, "load", damaged)
    with pytest.raises(UserError, match="config.policy.path = 'tiny': some weights are not finite"):
        open_session(freeze(default()))


def test_a_paraphraser_rewords_in_place_of_the_tasks_own_rewrite(monkeypatch):
    opened = []

    def open_writer(path, mesh):
        opened.append(path)
        return lambda asked, number, place: asked.split("\n\n")[1].replace("Then ", "Later ")

    monkeypatch.setattr(session_file, "open_writer", open_writer)
    config = default()
    config.task.paraphraser = "somebody"
    config.task.options = {"train": 4, "id": 1, "ood": 1}
    found = open_session(freeze(config))[0]
    items = [item for item in found.train.items if "Then " in item.question]
    reworded, steps = found.solver.task.surface(items[0], ["x"], np.random.default_rng(0))
    assert opened == ["somebody"] and steps == ["x"]
    assert reworded.question == items[0].question.replace("Then ", "Later ")


def test_latent_noise_needs_a_layer_below_the_last():
    session = types.SimpleNamespace(arch=types.SimpleNamespace(depth=1, dtype="float32"))
    config = default()
    with pytest.raises(UserError, match="latent_arms: .* one layer; set it to 0"):
        train.check_model(freeze(config), session)
    config.counterfactual.latent_arms = 0
    train.check_model(freeze(config), session)
