"""Rows that a small model is evaluated on."""

from __future__ import annotations

import numpy as np

HOSTILE = "</script><b onload=alert(1)> & 'x'"


TREE = {
    "name": "shop",
    "groups": {
        "billing": {"labels": ["refund", "overcharged", HOSTILE]},
        "delivery": {
            "labels": ["late", "broken", "refund"],
            "groups": {"courier": {"labels": ["rude", "kind"]}},
        },
        "mood": {"choose": "one", "route": "always", "labels": ["pleased", "cross"]},
    },
}


LABELS = ("refund", "overcharged", HOSTILE, "late", "broken", "rude", "kind", "pleased", "cross")


def rows(count, seed):
    """Texts of which some words lie."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        names = [str(name) for name in draw.choice(LABELS, draw.integers(0, 4), replace=False)]
        if {"pleased", "cross"} <= set(names):
            names.remove("cross")
        told = names if draw.random() < 0.8 else [str(draw.choice(LABELS))]
        words = [*(f"word{LABELS.index(name)}" for name in told), *draw.choice(["the", "my", "please"], 4)]
        yield {
            "id": f"r{number}",
            "text": " ".join(draw.permutation(words)) + f" {HOSTILE}\u2028",
            "labels": names,
        }
