"""What is done to each row of a file whose labels are migrated, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.rows.json_edits import Path
from cascade.rows.layout import Record, RowReader
from cascade.rows.rewriting import RowRewriter
from cascade.rows.row import BadRow, RefusedError, Row
from cascade.rows.spelling import NewLabels

LabelsOf = Callable[[Row], NewLabels]


@dataclass
class RowEdits:
    """Rows of one file, each with what to put where.

    Attributes
    ----------
    reader
        Reads rows with their old names.
    labels_of
        Says the new labels of a row.
    rows, changed
        How many there were, bad ones among them, and how many have other labels or other
        words for them.
    refused
        Those that are carried over as they are.
    """

    rewriter: RowRewriter
    reader: RowReader
    labels_of: LabelsOf
    rows: int = 0
    changed: int = 0
    refused: list[BadRow] = field(default_factory=list)

    def of(self, record: Record | BadRow, fields: Mapping[str, Any] | None = None) -> dict[Path, Any]:
        """What to put where in a row; empty where all stays.

        Parameters
        ----------
        fields
            Of a bad row, where they can be told.
        """
        self.rows += 1
        row = self.reader.to_row(record)
        if isinstance(row, BadRow):
            self.refused.append(row)
            known = record.fields if isinstance(record, Record) else fields
            return {} if known is None else self.rewriter.carried(known)
        assert isinstance(record, Record), "rows come of records"  # noqa: S101
        new = self.labels_of(row)
        try:
            values = self.rewriter.values(record.fields, new)
        except RefusedError as refusal:
            bad = BadRow(row.number, row.id, str(refusal), record.raw or "", row.file)
            self.refused.append(bad)
            return self.rewriter.carried(record.fields)
        self.changed += bool(values) or new.is_other
        return values
