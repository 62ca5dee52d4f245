"""What a finished run says."""

import pytest

from gccpo_jax.config import default, freeze
from gccpo_jax.errors import UserError
from gccpo_jax.tasks import load_task
from gccpo_jax.training.run import check_base, in_a_table


def test_the_table_ends_with_the_splits_that_have_words():
    names = ("id", "label_right", "label_wrong", "id_unscorable", "ood_depth", "ood_depth/direct")
    summary = {
        "before": dict.fromkeys(names, 0.5),
        "after": dict.fromkeys(names, 0.25) | {"id_unscorable": 0.0},
    }
    chain = load_task("chain", train=4, id=1, ood=1)
    assert in_a_table(summary, chain.splits_say) == [
        "                  id   50.0% ->  25.0%",
        "           ood_depth   50.0% ->  25.0%",
        "         label_right   50.0% ->  25.0%  the cue tells the answer",
        "         label_wrong   50.0% ->  25.0%  the cue tells another answer",
    ]
    first = in_a_table(summary, {"id": "questions like those of training"})[-1]
    assert first == "                  id   50.0% ->  25.0%  questions like those of training"


def test_adapters_do_not_go_on_beside_another_model():
    config = freeze(default())
    check_base({}, "", config)  # all parameters train, as before there were adapters
    check_base({"base": "12ab"}, "12ab", config)
    with pytest.raises(UserError, match="'tiny': not the model .* .digest 34cd, then 12ab"):
        check_base({"base": "12ab"}, "34cd", config)
