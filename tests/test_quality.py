"""The figures that the embedded model has to reach on public data sets, all settled on training rows."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
FLOORS = {
    "nlupp": {"micro_f1": 0.845, "macro_f1": 0.840},
    "clinc150": {"micro_f1": 0.905, "macro_f1": 0.905, "precision_at_1": 0.940, "none_recall": 0.85},
    "goemotions": {"micro_f1": 0.570, "macro_f1": 0.470},
    "us_bills": {"micro_f1": 0.665, "macro_f1": 0.550},
}
LONG = [pytest.mark.slow]


def rows_of(name: str, *splits: str) -> list[Path]:
    return [
        path
        for split in splits
        for ending in ("jsonl", "jsonl.gz")
        if (path := DATA / name / f"{split}.{ending}").exists()
    ]


def cascade(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cascade", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the public data sets are not at {DATA}")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("nlupp", "clinc150") else LONG) for name in FLOORS]
)
def test_the_embedded_model_reaches_its_figures(name: str, tmp_path: Path):
    train = [word for path in rows_of(name, "train", "valid") for word in ("--data", path)]
    cascade("fit", f"taxonomies/{name}.yaml", *train, "--out", tmp_path / "model")
    found = json.loads(cascade("evaluate", *rows_of(name, "test"), "--model", tmp_path / "model", "--json"))
    short = {
        figure: (found[figure], least) for figure, least in FLOORS[name].items() if found[figure] < least
    }
    assert not short
    assert found["errors"]["router"] + found["errors"]["leaf"] + found["errors"]["threshold"] > 0


# Given groups reach .575, .860 and .667 of the last three: proposed ones may lose .01.
PROPOSED_FLOORS = {"clinc150": 0.905, "nlupp": 0.850, "goemotions": 0.565, "us_bills": 0.657}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the public data sets are not at {DATA}")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in ("nlupp", "clinc150") else LONG) for name in PROPOSED_FLOORS],
)
def test_groups_that_init_proposes_lose_little(name: str, tmp_path: Path):
    train = tmp_path / "train.jsonl"
    train.write_bytes(b"".join(map(plain_bytes, rows_of(name, "train", "valid"))))
    (test,) = rows_of(name, "test")
    taxonomy, model = tmp_path / "taxonomy.yaml", tmp_path / "model"
    cascade("init", train, "--test", test, "--out", taxonomy)
    cascade("fit", taxonomy, "--out", model)
    found = json.loads(cascade("evaluate", test, "--model", model, "--json"))
    assert found["micro_f1"] >= PROPOSED_FLOORS[name]
    assert 2 <= len(found["per_group"]) <= 41


def plain_bytes(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
