"""`--profile`: traces of steps, in which stages have their names."""

import gzip
import json

import pytest

from gccpo_jax import config, sft
from gccpo_jax.errors import UserError
from gccpo_jax.runtime import cli
from tests.helpers.runs import small


def test_a_traced_step_names_its_stages(tmp_path):
    c = small(steps=4, log__profile=1, sampling__max_tokens=48)
    sft.fine_tune(c, "small", tmp_path / "run")
    assert [p.name for p in (tmp_path / "run/profile").iterdir()] == ["step_000003"]
    (file,) = (tmp_path / "run/profile").rglob("perfetto_trace.json.gz")
    names = {event.get("name") for event in json.loads(gzip.open(file).read())["traceEvents"]}
    assert {"step", "update"} <= names
    assert len(list((tmp_path / "run/profile").rglob("*.xplane.pb"))) == 1


def test_more_traced_steps_than_there_are_is_refused():
    c = config.default()
    c.steps, c.log.profile = 3, 2
    with pytest.raises(UserError, match="profile = 2 with steps = 3.*at least 4"):
        config.freeze(c)


@pytest.mark.parametrize(("flags", "steps"), [([], 0), (["--profile"], 1), (["--profile", "3"], 3)])
def test_profile_on_the_command_line(flags, steps):
    c = cli.parse("", ["--config", "configs/quickstart.py", *flags])[0]
    assert c.log.profile == steps
