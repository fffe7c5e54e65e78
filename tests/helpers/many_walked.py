"""Many rows of a taxonomy of many labels, walked without a model, and the memory that judging them takes.

As a program, ``many_walked.py figures`` or ``many_walked.py advice``, it tells by how many MiB memory grew
at most, and a figure by which something was found.
"""

from __future__ import annotations

import resource
import sys

import numpy as np

from cascade.changes.advice_evidence import candidates
from cascade.changes.advice_trials import Fitted
from cascade.learn.datasets import Dataset
from cascade.learn.fit import OutOfFold
from cascade.learn.truth import true_cells
from cascade.measure.comparison import compare_models
from cascade.measure.evaluate import evaluate
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.known_cells import KnownCells, Predictions
from cascade.measure.report import report_figures
from cascade.measure.sparse import flags_of
from cascade.model.decide import decide
from cascade.model.folder import Manifest
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy

SECTIONS, GROUPS, LABELS_OF_GROUP = 20, 400, 5
TEXTS = 24_000


def taxonomy():
    groups = {
        f"g{group}": {"labels": [f"l{group * LABELS_OF_GROUP + at}" for at in range(LABELS_OF_GROUP)]}
        for group in range(GROUPS)
    }
    sections = {
        f"s{number}": {"groups": {name: groups[name] for name in list(groups)[number::SECTIONS]}}
        for number in range(SECTIONS)
    }
    return Taxonomy.from_dict({"name": "many", "groups": sections})


def walked_texts(tree):
    """A walk that enters the group of each text's label and another one, and the label of each text."""
    draw, graph = np.random.default_rng(0), tree.graph
    labels = draw.integers(GROUPS * LABELS_OF_GROUP, size=TEXTS)
    groups = np.stack([labels // LABELS_OF_GROUP, draw.integers(GROUPS, size=TEXTS)], axis=1)

    def score(asked):
        return {group: scores(group, rows) for group, rows in asked.items()}

    def scores(group, rows):
        children = graph.children[group]
        if children[0] in graph.children:
            return np.ones((len(rows), len(children)), dtype=np.float32)
        found = draw.random((len(rows), len(children)), dtype=np.float32)
        is_own = labels[rows] // LABELS_OF_GROUP == int(group[1:])
        found[is_own, labels[rows[is_own]] % LABELS_OF_GROUP] += 0.5
        return np.minimum(found, 1)

    def enter(group, rows, _):
        own = groups[rows] if group.startswith("g") else groups[rows] % SECTIONS
        return (own == int(group[1:])).any(axis=1)

    return walk(tree, TEXTS, score, enter), [[f"l{label}"] for label in labels]


def manifest(tree):
    thresholds = dict.fromkeys(tree.labels, 0.9)
    return Manifest(tree.to_dict(), tree.graph.nodes, {}, thresholds, {}, (), 0, {})


def figures(tree, walked, labels):
    """The micro F1, after a report and a comparison of two models."""
    settled = manifest(tree)
    scored = Predictions.of(walked, lambda part: decide(tree, settled.thresholds, part.paths))
    truth = flags_of(true_cells(tree.graph, labels))
    cells = KnownCells.of(tree.graph, truth, scored, scored, always=frozenset())
    rows = EvaluatedRows(tree, settled, ["text"] * TEXTS, range(TEXTS), cells, evaluate(cells))
    report_figures(rows)
    compare_models(rows, rows)
    return rows.evaluation.micro_f1


def advice(tree, walked, labels):
    """The number of changes that the scores speak for."""
    dataset = Dataset.make(tree, [f"about {own[0]}" for own in labels], labels)
    found = OutOfFold(manifest(tree), np.arange(TEXTS), walked)
    return len(candidates(Fitted(dataset, found, ()), frozenset()))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    tree = taxonomy()
    walked, labels = walked_texts(tree)
    before = peak()
    found = {"figures": figures, "advice": advice}[sys.argv[1]](tree, walked, labels)
    sys.stdout.write(f"{peak() - before} {found}\n")
