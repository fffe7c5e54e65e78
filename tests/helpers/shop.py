"""A small data set whose labels stand in the texts as keywords."""

from __future__ import annotations

import random
from dataclasses import dataclass

from cascade.taxonomy.definition import Taxonomy

SHOP = {
    "name": "shop",
    "defaults": {"backend": {"kind": "linear", "C": 1}, "negatives": "siblings"},
    "groups": {
        "billing": {
            "labels": ["refund", {"name": "double_charge", "aliases": ["charged twice"]}],
            "groups": {"tax": {"labels": ["vat_missing", "vat_wrong"]}},
        },
        "delivery": {"labels": ["late", "broken"]},
        "product": {"labels": ["broken", "faulty"]},
        "mood": {"route": "always", "choose": "one", "labels": ["happy", "angry"]},
    },
}


WORDS = {
    "refund": "money returned",
    "double_charge": "charged twice",
    "vat_missing": "without vat",
    "vat_wrong": "vat percentage",
    "late": "arrived slowly",
    "broken": "smashed glass",
    "faulty": "stopped working",
    "happy": "lovely thanks",
    "angry": "furious complaint",
}


FILLERS = ["the", "a", "my", "order", "please", "hello", "today", "box", "you", "it", "shop", "again"]


@dataclass(frozen=True)
class Shop:
    """A small data set whose labels stand in the texts as keywords."""

    taxonomy: Taxonomy
    texts: list[str]
    labels: list[list[str]]


def shop_rows(n_texts: int, seed: int) -> tuple[list[str], list[list[str]]]:
    random_ = random.Random(seed)
    moods, others = ["happy", "angry"], [name for name in WORDS if name not in ("happy", "angry")]
    texts, labels = [], []
    for _ in range(n_texts):
        names = random_.sample(others, random_.choice([0, 1, 1, 2])) + random_.choice(
            [[], [], moods[:1], moods[1:]]
        )
        words = [WORDS[name] for name in names] + random_.choices(FILLERS, k=4)
        random_.shuffle(words)
        texts.append(" ".join(words))
        labels.append(names)
    return texts, labels
