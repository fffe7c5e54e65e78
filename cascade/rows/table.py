"""What is read of a file before anybody knows what its columns mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cascade.rows.layout import Record
from cascade.rows.row import BadRow


@dataclass(frozen=True)
class Table:
    """The records of a file, in order.

    Attributes
    ----------
    header
        The columns that all rows have, None where each has its own.
    notes
        What a person may want to know of how it is read.
    """

    header: Sequence[str] | None
    records: Iterator[Record | BadRow]
    notes: tuple[str, ...] = ()
