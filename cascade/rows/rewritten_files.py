"""Files of rows with other labels: read, settled, written in their own format, and read once more."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade.errors import DataError
from cascade.rows.encodings import UTF_8
from cascade.rows.files import RowFile
from cascade.rows.layout import Record, RowReader
from cascade.rows.names import KnownNames, LabelNames
from cascade.rows.reading import read_rows, table_of
from cascade.rows.readings import Columns, Reading
from cascade.rows.rewriting import RowRewriter
from cascade.rows.rewritten_tables import write_parquet, write_sheet
from cascade.rows.rewritten_text import write_text
from cascade.rows.row import BadRow, Row
from cascade.rows.row_edits import LabelsOf, RowEdits
from cascade.rows.table import Table
from cascade.taxonomy.definition import Taxonomy

_TOOLS = {"label_studio": "Label Studio", "prodigy": "Prodigy", "argilla": "Argilla"}
_SHEETS = (".xlsx", ".xlsm")


@dataclass(frozen=True)
class RewrittenFile:
    """A file with other labels.

    Attributes
    ----------
    rows, changed
        How many it has, those that could not be read among them, and how many have other labels
        or other words for them.
    refused
        Rows that were carried over as they stand, each with the reason.
    notes
        What is worth telling of how it is written.
    """

    path: Path
    rows: int
    changed: int
    refused: tuple[BadRow, ...]
    notes: tuple[str, ...]


class LabelledFile:
    """A file of rows whose labels are to become others.

    Parameters
    ----------
    columns
        What is told of the file.
    names
        The names that its labels have.
    old, new
        The taxonomies that these names come from and go to.
    known
        Readings of files before this one.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Columns,
        names: LabelNames,
        old: Taxonomy,
        new: Taxonomy,
        known: Sequence[Reading] = (),
    ) -> None:
        self.path = Path(path)
        self.file = RowFile.at(path, columns.encoding)
        self._columns, self._names, self._new = columns, names, new
        self._rows = read_rows(path, columns, names, known)
        self.told = self._rows.reading
        self.reading = self.told.reading
        self._header = self._rows.header
        self._rewriter = RowRewriter(
            self.file.name, self.reading, names, old, new, is_table=self.file.is_table
        )

    @property
    def out_name(self) -> str:
        """The name of the new file: the same one, unless its format cannot be written."""
        name = self.path.name
        if self._tool:
            return f"{name.removesuffix(self.file.packing).rsplit('.', 1)[0]}.jsonl"
        if self.file.format == "arrow":
            return f"{self.path.stem}.parquet"
        if self.file.format == "sheet" and self.path.suffix.lower() not in _SHEETS:
            return f"{self.path.stem}.xlsx"
        return name

    @property
    def _tool(self) -> str:
        """What a row is a part of that is not written again as it was; empty where it is."""
        return "the document" if self.file.format == "document" else _TOOLS.get(self.reading.format, "")

    def rows(self) -> Iterator[Row | BadRow]:
        """The rows as they are, once; how they are written is learned from them."""
        columns = dict.fromkeys(self._header or ())
        for row in self._rows:
            if isinstance(row, Row):
                self._rewriter.look_at(row.source)
                if self._header is None and self.reading.labels_are == "flags":
                    columns |= dict.fromkeys(row.source)
            yield row
        self._present = tuple(columns)

    def settle_columns(self, became: Mapping[str, Sequence[str]], wanted: Sequence[str]) -> None:
        """See `RowRewriter.settle_columns`; after all rows were looked at."""
        self._rewriter.settle_columns(self._present, became, wanted)

    def write(self, out: Path, labels_of: LabelsOf) -> RewrittenFile:
        """Write the file with the labels that `labels_of` gives for its rows.

        Raises
        ------
        DataError
            It is damaged, or holds what cannot be carried over.
        """
        edits, notes = self._edits(labels_of), list[str]()
        if self._tool:
            notes = self._write_plain(out, edits)
        elif self.file.format in ("parquet", "arrow"):
            write_parquet(self.file, edits, out, self._columns.max_row_mb)
        elif self.file.format == "sheet":
            notes = write_sheet(self.file, edits, out, self._columns.sheet, self._columns.max_row_mb)
        else:
            edits, notes = self._write_text(out, edits)
        if self.file.format == "arrow":
            notes.append(f"{self.file.name}: written as Parquet, {self.out_name}")
        if not edits.changed and self._rewriter.columns.is_same and self.out_name == self.path.name:
            shutil.copyfile(self.path, out)
        return RewrittenFile(out, edits.rows, edits.changed, tuple(edits.refused), tuple(notes))

    def _table(self, file: RowFile) -> AbstractContextManager[Table]:
        return table_of(file, self._columns, has_header=self.reading.header)

    def _edits(self, labels_of: LabelsOf) -> RowEdits:
        return RowEdits(self._rewriter, self._reader(self.reading, self._names), labels_of)

    def _reader(self, reading: Reading, names: LabelNames) -> RowReader:
        return RowReader(self.file.name, reading, KnownNames(names), self.file.is_table)

    def _write_text(self, out: Path, edits: RowEdits) -> tuple[RowEdits, list[str]]:
        most = self._columns.max_row_mb
        try:
            write_text(self.file, edits, out, most, self.file.encoding)
        except UnicodeEncodeError:
            edits = self._edits(edits.labels_of)
            write_text(self.file, edits, out, most, UTF_8)
            why = f"{self.file.name}: written in UTF-8, as a label cannot be written in {self.file.encoding}"
            return edits, [why]
        return edits, []

    def _write_plain(self, out: Path, edits: RowEdits) -> list[str]:
        """The export of a tool as lines of id, text, labels, and the whole task as it was under `source`."""
        with self._table(self.file) as table, out.open("wb") as stream:
            for record in table.records:
                stream.write(f"{self._plain_line(record, edits)}\n".encode(errors="backslashreplace"))
        return [f"{self.file.name}: written as {self.out_name}, with each row of {self._tool} under 'source'"]

    def _plain_line(self, record: Record | BadRow, edits: RowEdits) -> str:
        edits.rows += 1
        row = edits.reader.to_row(record)
        if isinstance(row, BadRow):
            edits.refused.append(row)
            fields = record.fields if isinstance(record, Record) else None
            return " ".join(row.raw.splitlines()) if fields is None else _dumped(fields)
        new = edits.labels_of(row)
        edits.changed += new.is_other
        return _dumped(
            {"id": row.id, "text": row.text, "labels": list(new.labels), "source": dict(row.source)}
        )

    # Once more

    def verify(self, found: RewrittenFile, labels_of: LabelsOf, told: Columns) -> tuple[str, ...]:
        """Read the new file beside the old one; what the new taxonomy has yet to say of it is returned.

        Parameters
        ----------
        told
            What the new taxonomy says of its files.

        Raises
        ------
        DataError
            A row of the new file does not say what it should.
        """
        reading = self._new_reading
        wrong = self._first_difference(found, labels_of, self._read_by(found.path, reading))
        if wrong is not None:
            raise DataError(
                f"{self.file.name} row {wrong}: its labels cannot be written so that they are read again. "
                "Save the file as JSONL, and migrate that"
            )
        return self._still_to_say(found, labels_of, told, reading)

    @property
    def _new_reading(self) -> Reading:
        if self._tool:
            return Reading(id="id")
        reading = self._rewriter.new_reading
        return replace(reading, encoding=None)

    def _read_by(self, path: Path, reading: Reading) -> Iterator[Row | BadRow]:
        file = RowFile.at(path, None if self._is_recoded(path) else self._columns.encoding)
        reader = RowReader(file.name, reading, KnownNames(self._new), file.is_table)
        with self._table(file) as table:
            yield from map(reader.to_row, table.records)

    def _is_recoded(self, path: Path) -> bool:
        """Whether a file that was told to be in another encoding is in UTF-8 by now."""
        return self._columns.encoding is not None and RowFile.at(path).encoding == UTF_8

    def _first_difference(
        self, found: RewrittenFile, labels_of: LabelsOf, rows: Iterator[Row | BadRow]
    ) -> int | None:
        """The number of the first row that does not say what it should."""
        refused = {bad.number for bad in found.refused}
        with self._table(self.file) as table:
            reader = self._reader(self.reading, self._names)
            for old, new in zip(map(reader.to_row, table.records), rows, strict=True):
                if (
                    isinstance(old, Row)
                    and old.number not in refused
                    and not _is_as_wanted(new, old, labels_of)
                ):
                    return old.number
        return None

    def _still_to_say(
        self, found: RewrittenFile, labels_of: LabelsOf, told: Columns, reading: Reading
    ) -> tuple[str, ...]:
        try:
            rows = read_rows(found.path, told, self._new)
            by_itself = rows.reading.reading
            is_read = replace(by_itself, encoding=None) == reading
            if is_read or self._first_difference(found, labels_of, rows) is None:
                return ()
        except DataError:
            pass
        return (f"{self.out_name}: is read only if the new taxonomy says\n{reading.yaml()}",)


def _is_as_wanted(new: Row | BadRow, old: Row, labels_of: LabelsOf) -> bool:
    if isinstance(new, BadRow):
        return False
    return set(new.labels) == set(labels_of(old).labels) and new.text == old.text


def _dumped(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, default=str)
