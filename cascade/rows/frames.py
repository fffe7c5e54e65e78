"""Frames of pandas, polars and others to rows, by the rules of tables in files, and answers as frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.errors import DataError
from cascade.rows.layout import Record, RowReader, as_data_error, refuse_duplicates
from cascade.rows.names import KnownNames, LabelNames
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import BadRow, Row, summarise_bad
from cascade.rows.settle import settle

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import TypeIs

FRAME = "<frame>"
_SAMPLE_ROWS = 1000


def is_frame(data: Any) -> TypeIs[pd.DataFrame]:
    """Whether `data` is a frame of pandas, or of a library that hands on its columns by Arrow's interface."""
    return hasattr(data, "columns") and (_is_pandas(data) or hasattr(data, "__arrow_c_stream__"))


def _is_pandas(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "pandas"


def has_objects(frame: Any) -> bool:
    """Whether a column may hold any object of Python, rather than values of one type."""
    return _is_pandas(frame)


def _rows_in(frame: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a frame and its rows."""
    header = [str(name) for name in frame.columns]
    refuse_duplicates(header, FRAME)
    if not _is_pandas(frame):
        import pyarrow as pa

        rows: list[dict[str, Any]] = pa.table(frame).to_pylist()
        return header, rows
    present = frame.astype(object).where(frame.notna(), None)
    return header, [dict(zip(header, row, strict=True)) for row in present.itertuples(index=False)]


def read_frame(
    frame: pd.DataFrame,
    columns: Columns,
    names: LabelNames | None = None,
    known: Sequence[Reading] = (),
) -> Iterator[Row | BadRow]:
    """The rows of a frame, numbered from 1, as `read_rows` gives those of a Parquet file.

    Raises
    ------
    DataError
        There is no column of texts, or of labels where `names` are given.
    """
    header, rows = _rows_in(frame)
    records = [Record(number, row, None) for number, row in enumerate(rows, 1)]
    known_names = None if names is None else KnownNames(names)
    with as_data_error(FRAME):
        reading, _ = settle(FRAME, header, records[:_SAMPLE_ROWS], columns, known_names, known)
    reader = RowReader(FRAME, reading, known_names, is_table=True)
    yield from map(reader.to_row, records)


def frame_rows(
    frame: Any,
    columns: Columns,
    names: LabelNames | None = None,
    known: Sequence[Reading] = (),
) -> list[Row]:
    """All rows of a frame; DataError where one cannot be used, or it is no frame."""
    if not is_frame(frame):
        raise DataError(f"expected a frame where no labels are given, found {type(frame).__name__}")
    rows = list(read_frame(frame, columns, names, known))
    if bad := [row for row in rows if isinstance(row, BadRow)]:
        raise DataError(summarise_bad(bad))
    return [row for row in rows if isinstance(row, Row)]


def texts_of(
    data: pd.DataFrame | Sequence[str], columns: Columns, known: Sequence[Reading] = ()
) -> Sequence[str]:
    """The texts of a frame; other sequences as they are."""
    return [row.text for row in frame_rows(data, columns, known=known)] if is_frame(data) else data


def frame_of(columns: Mapping[str, Sequence[Any]], like: Any) -> Any:
    """These columns as a frame of the kind of `like`, with its index if it has one; else of pandas."""
    if is_frame(like) and not _is_pandas(like):
        return type(like)(columns)
    import pandas as pd

    return pd.DataFrame(columns, index=like.index if is_frame(like) else None)
