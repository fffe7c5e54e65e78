"""Rows of text and labels, read from JSONL, CSV, TSV and Parquet files, and the rows that had to be refused.

Rows come one at a time, however long the file is. Whatever cannot be used is handed on as a `BadRow`, so
rows and bad rows together are always the whole file; a file that cannot be read as such raises `DataError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cascade.rows.delimited import csv_rows
from cascade.rows.files import RowFile, opened
from cascade.rows.jsonl import json_rows
from cascade.rows.layout import RowReader
from cascade.rows.parquet import parquet_rows
from cascade.rows.row import BadRow, Columns, LabelNames, Row


def read_rows(path: str | Path, columns: Columns, names: LabelNames | None = None) -> Iterator[Row | BadRow]:
    """Rows of one file in its order, read as they are asked for.

    The suffix tells the format: .jsonl, .ndjson and .json (one object a line), .csv, .tsv, each also with
    .gz, and .parquet; ``-`` is standard input as JSONL.

    * Rows are numbered from 1; headers and blank lines are no rows and are not counted.
    * The id is the value of `columns.id` (else of a column ``id``) where that is text or a whole number,
      else the row's number.
    * The text stands in `columns.text`, else in ``text``; else, if `names` are given, in the one column that
      is neither id nor labels. In JSONL the first usable row settles that for the file.
    * Labels stand in the column `columns.labels` as a list or as delimited names, or in several 0/1 columns
      where it is a tuple; else in ``labels``, else in every column named like a label. Null, absent, NaN and
      empty mean no labels, and 0 in a 0/1 column.

    Parameters
    ----------
    names : LabelNames, optional
        Without it labels are not read: every row has ``labels=()``.

    Raises
    ------
    DataError
        At once for a file that is missing or of an unknown kind and for wrong settings; while reading for
        a damaged file and for a table without the columns needed.
    """
    file = RowFile.at(path)
    reader = RowReader.of(file, columns, names)
    return rows_of(file, reader)


def read_all(
    paths: Sequence[str | Path], columns: Columns, names: LabelNames | None
) -> tuple[list[Row], list[BadRow]]:
    """Usable rows and refused rows of several files, each in order; see `read_rows`."""
    rows: list[Row] = []
    refused: list[BadRow] = []
    for path in paths:
        for row in read_rows(path, columns, names):
            if isinstance(row, Row):
                rows.append(row)
            else:
                refused.append(row)
    return rows, refused


def rows_of(file: RowFile, reader: RowReader) -> Iterator[Row | BadRow]:
    if file.suffix == ".parquet":
        yield from parquet_rows(file, reader, None)
        return
    with opened(file) as stream:
        yield from csv_rows(stream, file, reader) if file.is_table else json_rows(stream, reader)
