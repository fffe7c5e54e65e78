"""A problem of one node."""

from __future__ import annotations

import random

import numpy as np

from cascade.nodes.contract import NodeProblem
from cascade.text.texts import Texts

CHILDREN = ("refund", "late", "broken")


def problem_of(n_own, n_others=0, n_rare=None, texts=None, seed=0):
    """Rows whose texts are all different; the last child is rare where that is asked."""
    dice = random.Random(seed)
    n_texts = n_own + n_others
    targets = np.array([[dice.random() < 0.4 for _ in CHILDREN] for _ in range(n_texts)], dtype=bool).reshape(
        -1, 3
    )
    if n_rare is not None:
        targets[:, 2] = False
        targets[dice.sample(range(n_own), n_rare), 2] = True
    own = np.arange(n_texts) < n_own
    targets &= own[:, None]
    texts = texts or [f"row number {number}" for number in range(n_texts)]
    return NodeProblem(CHILDREN, Texts(texts), targets, own, seed)
