from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from processes import command, environment

from cascade.fitted import Cascade

OLDER = Path(__file__).parent / "folder_of_0_2"


def test_a_model_folder_of_release_0_2_is_loaded_and_answers_the_same(tmp_path):
    out = tmp_path / "answers.jsonl"
    words = ("--model", OLDER / "model", "--trace", "--scores", "all", "--out", out)
    subprocess.run(command("predict", OLDER / "texts.jsonl", *words), env=environment(), check=True)
    found, expected = (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in (out, OLDER / "expected.jsonl")
    )
    assert [row["labels"] for row in found] == [row["labels"] for row in expected]
    for row, before in zip(found, expected, strict=True):
        assert row["scores"] == pytest.approx(before["scores"], abs=1e-6)
        for step, then in zip(row["trace"], before["trace"], strict=True):
            assert step.keys() == then.keys()
            for key, value in then.items():
                assert step[key] == (pytest.approx(value, abs=2e-6) if isinstance(value, float) else value)


def test_its_taxonomy_is_the_one_that_was_fitted():
    model = Cascade.load(OLDER / "model")
    assert len(model.labels) == 9
    assert model.taxonomy.labels["double_charge"].aliases == ("charged twice",)
