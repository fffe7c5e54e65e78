"""Frames of pandas to rows, by the same rules as tables in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.errors import DataError
from cascade.rows.files import RowFile
from cascade.rows.layout import Record, RowReader
from cascade.rows.row import BadRow, Columns, LabelNames, Row, summarise_bad

if TYPE_CHECKING:
    import pandas as pd

FRAME = "<frame>"


def read_frame(
    frame: pd.DataFrame, columns: Columns, names: LabelNames | None = None
) -> Iterator[Row | BadRow]:
    """The rows of a frame, numbered from 1, as `read_rows` gives those of a Parquet file.

    Raises
    ------
    DataError
        There is no column of texts, or of labels where `names` are given.
    """
    table = RowFile(Path(FRAME), FRAME, ".parquet", zipped=False)
    reader = RowReader.of(table, columns, names)
    layout = reader.table_layout([str(name) for name in frame.columns])
    present = frame.astype(object).where(frame.notna(), None)
    fields = (
        dict(zip(map(str, present.columns), row, strict=True)) for row in present.itertuples(index=False)
    )
    for number, row in enumerate(fields, 1):
        yield reader.to_row(Record(number, row, None), layout)


def frame_rows(frame: pd.DataFrame, columns: Columns, names: LabelNames | None = None) -> list[Row]:
    """All rows of a frame; DataError where one cannot be used."""
    rows = list(read_frame(frame, columns, names))
    if bad := [row for row in rows if isinstance(row, BadRow)]:
        raise DataError(summarise_bad(bad))
    return [row for row in rows if isinstance(row, Row)]


def texts_of(data: pd.DataFrame | Sequence[str], columns: Columns) -> tuple[Sequence[str], pd.Index | None]:
    """The texts of a frame with its index; other sequences as they are."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return [row.text for row in frame_rows(data, columns)], data.index
    return data, None


def frame_of(columns: Mapping[str, Sequence[Any]], index: pd.Index | None) -> pd.DataFrame:
    """These columns as a frame."""
    import pandas as pd

    return pd.DataFrame(columns, index=index)
