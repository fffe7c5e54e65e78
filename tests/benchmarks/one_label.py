"""Parts of CLINC150 in which every row has one label: no taxonomy says so, and `fit` has to see it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sets import SEED, SOURCE, Set, Sets

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Some of the ten domains, of 15 intents each.

    Attributes
    ----------
    domains
        Positions in the taxonomy.
    kept, share
        Which part of its rows, of 120 to learn from and 30 to test on, the largest label keeps, and of which
        part of that each further one has.
    """

    domains: Sequence[int]
    kept: float = 1.0
    share: float = 1.0


PARTS: Mapping[str, Part] = {
    "75 labels, one a row": Part(range(5)),
    "75 others, one a row": Part(range(5, 10)),
    "90 labels, one a row, uneven": Part(range(6), 0.8, 0.97),
    "90 others, one a row, uneven, few": Part(range(4, 10), 0.25, 0.98),
}


def one_label(sets: Sets, name: str) -> Set:
    """One of `PARTS`; NotMeasuredError where CLINC150 is not there."""
    whole, part = sets.named(SOURCE), PARTS[name]
    taxonomy = yaml.safe_load(whole.taxonomy.read_text("utf-8"))
    groups = {group: of for at, (group, of) in enumerate(taxonomy["groups"].items()) if at in part.domains}
    labels = [label for group in groups.values() for label in group["labels"]]
    train, test = (
        thinned(_rows_with_one_of(labels, path), labels, part) for path in (whole.train, whole.test)
    )
    folder = sets.made / name.replace(",", "").replace(" ", "-")
    folder.mkdir(exist_ok=True)
    found = Set(folder, folder / "taxonomy.yaml", len(train), len(labels))
    found.taxonomy.write_text(yaml.safe_dump(taxonomy | {"groups": groups}, sort_keys=False), "utf-8")
    for path, rows in ((found.train, train), (found.test, test)):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return found


def _rows_with_one_of(labels: Sequence[str], path: Path) -> list[Row]:
    rows = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [row for row in rows if len(row["labels"]) == 1 and row["labels"][0] in labels]


def thinned(rows: Sequence[Row], labels: Sequence[str], part: Part) -> list[Row]:
    """Of rows of one label each those that a part keeps; which labels are large is drawn, always alike."""
    draw = random.Random(SEED)
    whole = Counter(row["labels"][0] for row in rows)
    order = draw.sample(labels, len(labels))
    left = {label: round(whole[label] * part.kept * part.share**at) for at, label in enumerate(order)}
    found = []
    for row in draw.sample(rows, len(rows)):
        (label,) = row["labels"]
        if left[label]:
            left[label] -= 1
            found.append(row)
    return found
