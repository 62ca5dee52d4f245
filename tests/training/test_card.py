"""The card of a run: what stands beside its figures."""

import json

from gccpo_jax.config import default
from gccpo_jax.training.card import card


def test_what_could_not_be_scored_is_beside_the_share_of_the_rest(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(default().to_dict()))
    (tmp_path / "summary.json").write_text(json.dumps({"steps": 4, "config": "small"}))
    (tmp_path / "evaluation").mkdir()
    for step, scores in ((0, [0.0, 0.0, 0.0, 1.0]), (4, [1.0, 0.0, None, None])):
        row = json.dumps({"split": "id", "scores": scores})
        (tmp_path / f"evaluation/step_{step:06d}.jsonl").write_text(row + "\n")
    text = card(tmp_path, "mit", "mit", "export")
    assert "| id | 4 | 25.0 [4.6, 69.9] | 50.0 [9.5, 90.5] (50.0% unscorable) |" in text
