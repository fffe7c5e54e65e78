"""Data sets for the benchmarks, made in a folder of the run; the same arguments give the same bytes."""

from __future__ import annotations

import gzip
import json
import math
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import NotMeasuredError, existing

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "clinc150"
SEED = 13
N_INTENTS = 150
# Divisible by most of the numbers that intents are split into, so that the parts are about equal.
N_DESKS = 120
OURS = {
    "train": [ROOT / "training_data" / "feedback.jsonl"],
    "test": [ROOT / "training_data" / "feedback_test.jsonl"],
}


@dataclass(frozen=True)
class Set:
    """Where one data set lies: a folder with train.jsonl, test.jsonl and taxonomy.yaml, as the peers take it.

    `taxonomy` is what Cascade is given; it names the same labels.
    """

    folder: Path
    taxonomy: Path
    n_rows: int
    n_labels: int

    @property
    def train(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def test(self) -> Path:
        return self.folder / "test.jsonl"


class Sets:
    """Makes data sets in the folder `made` from those in `data`.

    All methods raise NotMeasuredError where a source is missing.
    """

    def __init__(self, data: Path, made: Path) -> None:
        self.data, self.made = data, made

    def mix(self, n_rows: int) -> Set:
        """So many training rows, and a fifth as many test rows, each of 1 to 3 joined utterances."""
        folder = self.made / f"mix-{n_rows}"
        if not folder.exists():
            source, script = existing(self.data / SOURCE), existing(self.data / "mix.py")
            size = ["--rows", str(n_rows), "--seed", str(SEED)]
            subprocess.run([sys.executable, script, "--source", source, *size, "--out", folder], check=True)
        return Set(folder, folder / "taxonomy.yaml", n_rows, N_INTENTS)

    def short(self, n_rows: int) -> Path:
        """So many rows of joined test utterances, to be labelled."""
        path = self.made / f"short-{n_rows}.jsonl"
        if not path.exists():
            mix = self._mix()
            mix["write"](path, mix["rows"](existing(self.data / SOURCE), "test"), n_rows, SEED)
        return path

    def split(self, n_labels: int, n_rows: int) -> Set:
        """The same rows for any number of labels, in about sqrt(n_labels) groups of equal size.

        Texts and labels are those of `_split`, and utterances are then joined.
        """
        mix = self._mix()
        utterances = mix["rows"](existing(self.data / SOURCE), "train", "valid")
        folder = self.made / f"split-{n_labels}-{n_rows}"
        folder.mkdir(exist_ok=True)
        made = Set(folder, folder / "taxonomy.yaml", n_rows, n_labels)
        mix["write"](made.train, _split(utterances, n_labels), n_rows, SEED)
        names = [_split_name(at) for at in range(n_labels)]
        size = math.ceil(n_labels / round(math.sqrt(n_labels)))
        groups = {f"part {at}": names[at : at + size] for at in range(0, n_labels, size)}
        made.taxonomy.write_text(_taxonomy(groups))
        return made

    def named(self, name: str) -> Set:
        """A data set; valid, if any, added to train.

        A taxonomy of its name describes it, or one that lies with it.
        """
        train, valid, test = (self._rows(name, split) for split in ("train", "valid", "test"))
        folder = self.made / name
        folder.mkdir(exist_ok=True)
        _join(train + valid, folder / "train.jsonl")
        _join(test, folder / "test.jsonl")
        n_rows, labels = _labels_of(folder / "train.jsonl")
        # The peers know no groups here, and what no row carries is nothing that they could learn.
        (folder / "taxonomy.yaml").write_text(_taxonomy({"all labels": labels}))
        own = ROOT / "taxonomies" / f"{name}.yaml"
        return Set(folder, own if own.exists() else self.data / name / "taxonomy.yaml", n_rows, len(labels))

    def _mix(self) -> dict[str, Any]:
        """The functions of the script that joins utterances."""
        return runpy.run_path(str(existing(self.data / "mix.py")))

    def _rows(self, name: str, split: str) -> list[Path]:
        """The files of one part of a data set, of which only valid may be absent."""
        if name == "feedback":
            return OURS.get(split, [])
        folder = existing(self.data / name)
        found = [path for end in ("jsonl", "jsonl.gz") if (path := folder / f"{split}.{end}").exists()]
        if not found and split != "valid":
            raise NotMeasuredError(f"skipped, there is no {split}.jsonl, plain or gzipped, in {folder}")
        return found


Utterances = list[tuple[str, list[str]]]


def _split(utterances: Utterances, n_labels: int) -> Utterances:
    """Each utterance with a number, ``at desk 7``, which says what part of its intent is its label.

    Intents are split into as many parts as are needed, or, for fewer than `N_INTENTS` labels, put together.
    """
    place = {name: at for at, name in enumerate(sorted({name for _, names in utterances for name in names}))}
    n_parts = math.ceil(n_labels / N_INTENTS)
    draw = random.Random(SEED)
    found = []
    for text, names in utterances:
        desk = draw.randrange(N_DESKS)
        labels = [_split_name((place[name] * n_parts + desk % n_parts) % n_labels) for name in names]
        found.append((f"{text} at desk {desk}", labels))
    return found


def _split_name(at: int) -> str:
    return f"split {at}"


def _taxonomy(groups: Mapping[str, Sequence[str]]) -> str:
    """A taxonomy file; JSON is YAML."""
    return json.dumps({"name": "made", "groups": {name: {"labels": of} for name, of in groups.items()}})


def _labels_of(path: Path) -> tuple[int, list[str]]:
    """How many rows there are, and the labels that they carry; they are not held, see `measure`."""
    n_rows, labels = 0, set()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            n_rows += 1
            labels.update(json.loads(line)["labels"])
    return n_rows, sorted(labels)


def _join(files: Iterable[Path], out: Path) -> None:
    with out.open("wb") as joined:
        for file in files:
            with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as rows:
                shutil.copyfileobj(rows, joined)
