"""What is checked when a run is opened: the chat template's part."""

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.training.session import open_session


@pytest.mark.parametrize(
    ("field", "value"), [("template", {"enable_thinking": False}), ("date", "2031-02-03")]
)
def test_fields_of_a_chat_template_are_refused_where_there_is_none(field, value):
    config = default()
    config.data[field] = value
    with pytest.raises(UserError, match=f"config.data.*{field}"):
        open_session(freeze(config))
