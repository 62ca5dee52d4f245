"""The live page: new steps are there when asked for, and nobody else may ask."""

import urllib.error
import urllib.request

import pytest

from gccpo_jax.errors import UserError
from gccpo_jax.report import live
from tests.helpers.analysed import rows, write_analysis
from tests.helpers.recorded import group, write_more, write_run
from tests.helpers.serving import serving


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.read().decode()


def test_new_steps_are_there_as_they_are_written(tmp_path):
    workdir = write_run(tmp_path / "run", group())
    with serving(workdir) as address:
        first, before = get(address), get(address + "state")
        assert "connect-src &#39;self&#39;" in first and "data-live" in first
        assert get(address + "state") == before
        write_more(workdir, group(at=10))
        assert get(address + "state") != before
        assert 'id="r0-s10-q0"' in get(address) and 'id="r0-s10-q0"' not in first


def test_an_analysis_that_goes_on_is_served_too(tmp_path):
    out = write_analysis(tmp_path / "out", rows()[:2], ended=False)
    with serving(out) as address:
        first, before = get(address), get(address + "state")
        write_analysis(tmp_path / "more", rows()[2:])
        with (out / "trajectories.jsonl").open("a") as file:
            file.write((tmp_path / "more/trajectories.jsonl").read_text())
        assert get(address + "state") != before
        assert 'id="g-1"' in get(address) and 'id="g-1"' not in first


def test_it_answers_this_machine_and_only_what_it_has(tmp_path):
    workdir = write_run(tmp_path / "run", group())
    with serving(workdir) as address:
        assert address.startswith("http://127.0.0.1:")
        for path, host, code in (("", "evil.example", 403), ("config.json", None, 404)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(address + path, **({"Host": host} if host else {}))
            assert refused.value.code == code
            refused.value.close()
        with pytest.raises(UserError, match="choose another port"):
            live.server([workdir], int(address.rstrip("/").rpartition(":")[2]))
