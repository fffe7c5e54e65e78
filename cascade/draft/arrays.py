"""The label arrays of HiClass: a row a sample, a column a level, empty where a path is shorter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cascade.draft.concepts import Outline, PathEntry, clean_name, tree_of, walk
from cascade.draft.tables import Table
from cascade.errors import DataError

_MOST_DIMENSIONS = 3


def read_array(path: Path) -> Outline:
    """The paths in a ``.npy`` file of strings, of shape (n_samples, n_levels) or (n_samples, n_labels,
    n_levels).

    Raises
    ------
    DataError
        The file is no array, or one of objects, which only running its code would read.
    """
    try:
        array: Any = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "pickle" in str(error) and _is_array(path):
            raise DataError(
                f"{path}: an array of objects, which is not read, as that can run code; save it as text: "
                "np.save(path, y.astype(str))"
            ) from error
        raise DataError(f"{path}: not an array of NumPy: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim > _MOST_DIMENSIONS or array.dtype.kind not in "USiu":
        raise DataError(f"{path}: expected an array of strings of shape (n_samples, n_levels)")
    rows = np.atleast_2d(array.T).T if array.ndim < _MOST_DIMENSIONS else array.reshape(-1, array.shape[-1])
    return of_levels([[_text(cell) for cell in row] for row in rows.tolist()], str(path))


def read_levels(table: Table) -> Outline:
    """The paths in a table of levels without headers, each row of it a sample."""
    return of_levels(table.rows, table.source)


def of_levels(rows: list[list[str]], source: str) -> Outline:
    """The concepts of samples, with how many rows each has."""
    counts: Counter[tuple[str, ...]] = Counter()
    entries: dict[tuple[str, ...], PathEntry] = {}
    for number, row in enumerate(rows, start=1):
        last = max((at for at, cell in enumerate(row) if cell), default=-1)
        own = tuple(row[: last + 1])
        if own:
            entries.setdefault(own, PathEntry(own, f"{source} row {number}"))
            counts.update(own[:depth] for depth in range(1, len(own) + 1))
    top = tree_of(entries.values())
    for path, concept in walk(top):
        concept.rows = counts[path]
    return Outline(top)


def _text(cell: Any) -> str:
    return clean_name(cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell)


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"
