"""Cascade, one fit: the embedded model without folds, calibration and thresholds, as the peers are run.

    python ours.py FOLDER OUT --jobs 2

FOLDER holds train.jsonl, test.jsonl and taxonomy.yaml; OUT gets the scored test rows. The seconds of fit
and predict, without reading and writing, are one JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scored
from joblib import Parallel, delayed

from cascade.learn.datasets import Dataset
from cascade.model.walk import batches, walk
from cascade.nodes.contract import NodeModel, NodeProblem
from cascade.nodes.linear import LEAST_ROWS, LinearBackend
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.system.array_types import FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.text.features import VERSION, bags_of
from cascade.text.texts import Texts

BATCH = 10_000
SEED = 0
Scores = Callable[[Sequence[str]], FloatArray]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("folder", type=Path)
    cli.add_argument("out", type=Path)
    cli.add_argument("--jobs", type=int, required=True)
    asked = cli.parse_args()
    taxonomy = Taxonomy.load(asked.folder / "taxonomy.yaml")
    (texts, labels), (asked_texts, _) = (
        _read(asked.folder / f"{split}.jsonl", taxonomy) for split in ("train", "test")
    )
    start = time.perf_counter()
    scores = fit_once(taxonomy, texts, labels, asked.jobs)
    fitted = time.perf_counter()
    found = scores(asked_texts)
    done = time.perf_counter()
    scored.write(asked.out, taxonomy.graph.labels, scored.of_matrix(found))
    print(json.dumps({"fit_s": fitted - start, "predict_s": done - fitted}))


def _read(path: Path, taxonomy: Taxonomy) -> tuple[list[str], list[tuple[str, ...]]]:
    rows = read_all([path], Columns(), taxonomy).rows
    return [row.text for row in rows], [row.labels for row in rows]


def fit_once(taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]], jobs: int) -> Scores:
    """A function from texts to raw path scores, float32, shape (n_texts, n_labels).

    They are products of sigmoid(2 * margin), NaN below groups that reach no more than `scored.LEAST`: what
    stands there cannot be above.
    """
    dataset, backend = Dataset.make(taxonomy, texts, labels), LinearBackend()
    # Not `prepare`, which also finds the texts that folds need to keep together.
    dataset.texts.features(("bags", VERSION), lambda whole: bags_of(whole, LEAST_ROWS, jobs))
    groups = [group for group in taxonomy.graph.groups if taxonomy.scored_children(group)]
    fits = Parallel(jobs, backend="threading")(
        delayed(backend.fit_once)(_problem(dataset, group)) for group in groups
    )
    models = dict(zip(groups, fits, strict=True))

    def scores(asked: Sequence[str]) -> FloatArray:
        paths = Parallel(jobs, backend="threading")(
            delayed(_paths)(taxonomy, models, asked[rows])
            for rows in batches(len(asked), taxonomy.graph, BATCH)
        )
        return np.concatenate(paths)

    return scores


def _problem(dataset: Dataset, group: str) -> NodeProblem:
    """What a group has to learn from the rows that reach it."""
    rows = np.flatnonzero(dataset.taught(group) & dataset.reaching(group))
    return dataset.problem(group, rows, SEED)


def _paths(taxonomy: Taxonomy, models: Mapping[str, NodeModel], texts: Sequence[str]) -> FloatArray:
    batch = Texts(texts)

    def score(asked: Mapping[str, IntArray]) -> dict[str, FloatArray]:
        return {group: models[group].scores(batch.take(rows)) for group, rows in asked.items()}

    walked = walk(taxonomy, len(texts), score, lambda _group, _rows, path: path > scored.LEAST)
    return walked.paths[:, -len(taxonomy.graph.labels) :]


if __name__ == "__main__":
    main()
