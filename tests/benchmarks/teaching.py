"""What labels teach that `cascade review` asks for, beside as many that chance asks for.

From each data set some rows are taken as labelled, and the others as texts. A model is fitted on the first;
then some of the texts get their labels, by chance and by `cascade.teach.selection.select_rows`, and two more
models are fitted and measured on the test rows. Printed are F1s, means over seeds, and how much more was won.
Run as ``python tests/benchmarks/teaching.py [--data ../shared/data] [--sets feedback,us_bills] [--seeds 3]``.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

import numpy as np

from cascade.fitted import Cascade
from cascade.learn.truth import true_cells
from cascade.measure.metrics import macro_f1, micro_f1, of_labels
from cascade.measure.sparse import decided, flags_of
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.selection import select_rows

ROOT = Path(__file__).resolve().parents[2]
# Rows to begin with, and rows to be labelled then.
SIZES = {
    "feedback": (600, 300),
    "clinc150": (1500, 1000),
    "goemotions": (3000, 1500),
    "us_bills": (2500, 1000),
}
MOST_TEXTS, MOST_TEST_ROWS = 20_000, 4000


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of data sets")
    cli.add_argument("--sets", default=",".join(SIZES), help="which of them")
    cli.add_argument("--seeds", type=int, default=3, help="how often each is done")
    asked = cli.parse_args()
    print(f"{os.cpu_count()} cores, {asked.seeds} seeds; micro and macro F1\n")
    print("| rows | at first | by chance | by review | won, beside chance |")
    print("| --- | --- | --- | --- | --- |")
    for name in asked.sets.split(","):
        files = files_of(name, asked.data)
        if files is None:
            print(f"{name}: skipped, as there is no {asked.data / name}", file=sys.stderr)
        else:
            print(line(name, measured(name, *files, asked.seeds)), flush=True)


def files_of(name, data):
    """Training and test rows; None where they are not there."""
    if name == "feedback":
        rows = ROOT / "training_data"
        return rows / "feedback.jsonl", rows / "feedback_test.jsonl"
    found = [next(iter(sorted((data / name).glob(f"{part}.jsonl*"))), None) for part in ("train", "test")]
    return None if None in found else found


def measured(name, train, test, seeds):
    """F1s at first, by chance and by review, shape (n_seeds, 3, 2)."""
    taxonomy = Taxonomy.load(ROOT / "taxonomies" / f"{name}.yaml")
    rows = read_all([train], Columns(), taxonomy).rows
    tests = read_all([test], Columns(), taxonomy).rows
    return np.array(
        [once(taxonomy, rows, tests[:MOST_TEST_ROWS], *SIZES[name], seed) for seed in range(seeds)]
    )


def once(taxonomy, rows, tests, n_first, n_more, seed):
    mixed = random.Random(seed).sample(rows, len(rows))
    first, texts = mixed[:n_first], mixed[n_first : n_first + MOST_TEXTS]
    model = fitted(taxonomy, first)
    selected = [one.row for one in select_rows(model, texts, n_more).selected]
    by_chance = texts[: len(selected)]
    return [
        f1s(model, tests),
        f1s(fitted(taxonomy, [*first, *by_chance]), tests),
        f1s(fitted(taxonomy, [*first, *selected]), tests),
    ]


def fitted(taxonomy, rows):
    texts, labels = [row.text for row in rows], [row.labels for row in rows]
    return Cascade.fit(taxonomy, texts, labels, jobs=os.cpu_count())


def f1s(model, rows):
    graph = model.graph
    truth = flags_of(true_cells(graph, [row.labels for row in rows]))
    chosen = decided(model.walk([row.text for row in rows]), model.decide)
    told = [of_labels(graph, flags) for flags in (truth, chosen)]
    return micro_f1(*told), macro_f1(*told)


def line(name, found):
    first, chance, review = found.mean(axis=0)
    won = (review - first) / (chance - first)
    shown = [f"{micro:.3f}, {macro:.3f}" for micro, macro in (first, chance, review)]
    n_first, n_more = SIZES[name]
    cells = [f"{name}, {n_first:,} and {n_more:,}", *shown, f"{won[0]:.2f}x, {won[1]:.2f}x"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
