"""Rows for training and rows for tests, as files beside the taxonomy."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.checks.duplicates import essence_of
from cascade.rows.row import Row
from cascade.rows.workbooks import WORKBOOKS
from cascade.system.array_types import BoolArray, IntArray
from cascade.system.files import atomic_write
from cascade.text.clusters import near_duplicates
from cascade.validation.folds import stratified_folds

FOLDS = 5
"""One of them is for tests."""
ROWS_LEAST = 50
"""Of fewer rows a fifth measures nothing, and training misses them."""
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_MOST_CELLS = 500_000_000
_SEED = 0


def rows_for_tests(texts: Sequence[str], labels: Sequence[Sequence[Hashable]]) -> BoolArray:
    """Which rows are for tests, bool (n_texts,): a fifth of each label's, as far as that goes.

    Texts that are nearly equal, or equal but for case, punctuation and blanks, are on one side. A label of
    which no row would be left to learn from keeps all of its rows in training. The same rows give the same
    split.
    """
    clusters = _clusters(texts)
    names = {name: at for at, name in enumerate(dict.fromkeys(name for own in labels for name in own))}
    carried = [[names[name] for name in own] for own in labels]
    targets = _targets(carried, len(names))
    is_test = np.asarray(stratified_folds(targets, clusters, FOLDS, _SEED) == 0)
    return _with_some_to_learn_from(is_test, carried, clusters, len(names))


def _targets(carried: Sequence[Sequence[int]], n_labels: int) -> BoolArray:
    """Labels of rows as a matrix; of so many that it would not fit, several share a column."""
    width = min(n_labels, max(_MOST_CELLS // max(len(carried), 1), 1))
    targets = np.zeros((len(carried), width), dtype=bool)
    for row, own in enumerate(carried):
        targets[row, [label % width for label in own]] = True
    return targets


def _clusters(texts: Sequence[str]) -> IntArray:
    """The number of the cluster of each text, int64 (n_texts,)."""
    from scipy import sparse

    near = near_duplicates(texts)
    first: dict[str, int] = {}
    same = np.array(
        [first.setdefault(essence_of(text), row) for row, text in enumerate(texts)], dtype=np.int64
    )
    rows = np.arange(len(texts))
    links = sparse.coo_matrix(
        (np.ones(2 * len(rows)), (np.tile(rows, 2), np.concatenate([near, same]))), shape=(len(rows),) * 2
    )
    _, found = sparse.csgraph.connected_components(links, directed=False)
    return np.asarray(found, dtype=np.int64)


def _with_some_to_learn_from(
    is_test: BoolArray, carried: Sequence[Sequence[int]], clusters: IntArray, n_labels: int
) -> BoolArray:
    left = np.zeros(n_labels, dtype=np.int64)
    for row in np.flatnonzero(~is_test).tolist():
        left[carried[row]] += 1
    back = {
        int(clusters[row])
        for row in np.flatnonzero(is_test).tolist()
        if any(left[label] == 0 for label in carried[row])
    }
    return is_test & ~np.isin(clusters, sorted(back))


# As files


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows with all their columns as they were read, in the format that the suffix of `path` names."""
    with atomic_write(path) as file:
        if path.suffix == ".parquet":
            file.write(_parquet(rows))
        else:
            for piece in (
                _csv(rows, path.suffix) if path.suffix in (".csv", ".tsv") else map(_json_line, rows)
            ):
                file.write(piece)


def suffix_for(source: Path) -> str:
    """The suffix of the files that rows of `source` are written to: its own, where it is one of ours."""
    suffixes = [suffix.lower() for suffix in source.suffixes if suffix.lower() not in _PACKED]
    plain = suffixes[-1] if suffixes else ""
    if plain in (".csv", ".tsv", ".parquet"):
        return plain
    return ".csv" if plain in WORKBOOKS else ".jsonl"


def _json_line(row: Row) -> bytes:
    return f"{json.dumps(row.source, ensure_ascii=False, default=str)}\n".encode("utf-8", "surrogatepass")


def _csv(rows: Sequence[Row], suffix: str) -> Iterable[bytes]:
    columns = list(dict.fromkeys(column for row in rows for column in row.source))
    held = io.StringIO()
    writer = csv.writer(held, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    for cells in [columns, *([_cell(row.source.get(column)) for column in columns] for row in rows)]:
        writer.writerow(cells)
        yield held.getvalue().encode()
        held.seek(0)
        held.truncate()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _parquet(rows: Sequence[Row]) -> bytes:
    """The same rows of the same file, whose types stay as they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(rows[0].file).take(pa.array([row.number - 1 for row in rows]))
    held = io.BytesIO()
    pq.write_table(table, held)
    return held.getvalue()
