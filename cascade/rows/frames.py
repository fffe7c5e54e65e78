"""Frames of pandas and polars to rows, by the same rules as tables in files."""

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

FRAME = "<frame>"
_SAMPLE_ROWS = 1000


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
    header = [str(name) for name in frame.columns]
    refuse_duplicates(header, FRAME)
    present = frame.astype(object).where(frame.notna(), None)
    rows = [dict(zip(header, row, strict=True)) for row in present.itertuples(index=False)]
    known_names = None if names is None else KnownNames(names)
    with as_data_error(FRAME):
        reading, _ = settle(FRAME, header, rows[:_SAMPLE_ROWS], columns, known_names, known)
    reader = RowReader(FRAME, reading, known_names, is_table=True)
    for number, row in enumerate(rows, 1):
        yield reader.to_row(Record(number, row, None))


def frame_rows(
    frame: pd.DataFrame,
    columns: Columns,
    names: LabelNames | None = None,
    known: Sequence[Reading] = (),
) -> list[Row]:
    """All rows of a frame; DataError where one cannot be used."""
    rows = list(read_frame(frame, columns, names, known))
    if bad := [row for row in rows if isinstance(row, BadRow)]:
        raise DataError(summarise_bad(bad))
    return [row for row in rows if isinstance(row, Row)]


def texts_of(
    data: pd.DataFrame | Sequence[str], columns: Columns, known: Sequence[Reading] = ()
) -> tuple[Sequence[str], pd.Index | None]:
    """The texts of a frame with its index; other sequences as they are."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return [row.text for row in frame_rows(data, columns, known=known)], data.index
    return data, None


def frame_of(columns: Mapping[str, Sequence[Any]], index: pd.Index | None) -> pd.DataFrame:
    """These columns as a frame."""
    import pandas as pd

    return pd.DataFrame(columns, index=index)
