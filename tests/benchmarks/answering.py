"""Cascade's answers to texts that are in memory already, from processes that are running.

    python answering.py ROWS MODEL --jobs 2

The seconds of walking and deciding, without start, reading, loading and writing, are one JSON object on
standard output: what `cascade predict` does between those.
"""

from __future__ import annotations

import argparse
import json
import time
from multiprocessing import get_context
from pathlib import Path

from cascade.fitted import Cascade
from cascade.model.walk import batches
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns

BATCH = 10_000


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("rows", type=Path)
    cli.add_argument("model", type=Path)
    cli.add_argument("--jobs", type=int, required=True)
    asked = cli.parse_args()
    model = Cascade.load(asked.model)
    texts = [row.text for row in read_all([asked.rows], Columns(), model.taxonomy).rows]
    slices = [texts[part] for part in batches(len(texts), model.graph, BATCH)]
    with get_context("spawn").Pool(asked.jobs, _load, [asked.model]) as workers:
        workers.map(_answer, [texts[:10]] * 100 * asked.jobs, chunksize=1)  # until all are there
        start = time.perf_counter()
        answered = sum(workers.map(_answer, slices, chunksize=1))
        seconds = time.perf_counter() - start
    print(json.dumps({"predict_s": seconds, "labels": answered}))


_models: list[Cascade] = []


def _load(folder: Path) -> None:
    _models.append(Cascade.load(folder))


def _answer(texts: list[str]) -> int:
    """How many labels these texts have."""
    return int(_models[0].decide(_models[0].walk(texts)).sum())


if __name__ == "__main__":
    main()
