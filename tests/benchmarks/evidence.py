"""Whether evidence carries its labels: how many fall when it is taken out of the text.

For each label of each row's answer the stretches that ``cascade predict --evidence`` tells are taken out of
the text, and, instead of them, as many words by chance. Printed is which share of the labels is lost by
either, how much of the texts was taken out, and rows a second without and with evidence, of texts whose own
vectors are there already.
Run as ``python tests/benchmarks/evidence.py MODEL ROWS [--most 500] [--seed 0]``.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cascade.fitted import Cascade
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.text.normal import is_mere_marks
from cascade.text.occurrences import occurrences_of


class Deleted(NamedTuple):
    """A label of a text, and the text without its evidence and without words by chance."""

    label: str
    without: str
    by_chance: str
    share: float


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("model", type=Path)
    cli.add_argument("rows", type=Path)
    cli.add_argument("--most", type=int, default=1000, help="rows")
    cli.add_argument("--seed", type=int, default=0, help="settles chance")
    asked = cli.parse_args()
    model = Cascade.load(asked.model)
    rows = read_all([asked.rows], Columns(), model.taxonomy).rows[: asked.most]
    texts = [row.text for row in rows]
    model.predict(texts)
    model.evidence(texts[:1])
    plain, _ = timed(model.predict, texts)
    slow, found = timed(model.evidence, texts)
    deleted = list(deletions(texts, found, random.Random(asked.seed)))
    lost, by_chance = lost_shares(model, deleted)
    taken = np.mean([one.share for one in deleted])
    print("| model | rows, labels | words out | lost without evidence | by chance | rows/s | with evidence |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    cells = [asked.model.name, f"{len(rows):,}, {len(deleted):,}", f"{taken:.1%}", f"{lost:.1%}"]
    cells += [f"{by_chance:.1%}", f"{len(rows) / plain:,.0f}", f"{len(rows) / slow:,.1f}"]
    print(f"| {' | '.join(cells)} |")


def timed(of, texts):
    start = time.perf_counter()
    found = of(texts)
    return time.perf_counter() - start, found


def deletions(texts, found, chance):
    """Of each label of each text what is left of it; a label that nothing tells of leaves it as it is."""
    for text, labels in zip(texts, found, strict=True):
        words = [(start, end) for start, end in occurrences_of(text).spans.tolist() if said(text[start:end])]
        for one in labels:
            spans = [(span.start, span.end) for span in one.spans]
            told = [word for word in words if any(start <= word[0] < end for start, end in spans)]
            by_chance = chance.sample(words, len(told))
            yield Deleted(one.label, cut(text, spans), cut(text, by_chance), len(told) / max(len(words), 1))


def said(word):
    return not is_mere_marks(word)


def cut(text, stretches):
    """The text with a blank in the place of each stretch."""
    for start, end in sorted(stretches, reverse=True):
        text = f"{text[:start]} {text[end:]}"
    return text


def lost_shares(model, deleted):
    """Which share of the labels is not given any more, without evidence and without words by chance."""
    answers = [model.predict([getattr(one, name) for one in deleted]) for name in ("without", "by_chance")]
    return [
        np.mean([one.label not in labels for one, labels in zip(deleted, given, strict=True)])
        for given in answers
    ]


if __name__ == "__main__":
    main()
