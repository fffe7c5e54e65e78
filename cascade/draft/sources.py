"""Which kind of source a file is, and its outline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from cascade.draft.concepts import Outline, refuse_empty
from cascade.draft.labelled import TEXTS, columns_of
from cascade.draft.nested import parsed, read_nested
from cascade.draft.outlines import read_outline
from cascade.draft.sheets import is_sheet, read_sheet
from cascade.draft.skos import FORMATS, read_skos
from cascade.draft.tables import WORKBOOKS, read_table, text_of
from cascade.errors import DataError
from cascade.rows.files import RowFile

Kind = Literal["rows", "sheet", "outline", "json", "skos", "label-studio", "hiclass"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TABLES = (".csv", ".tsv", *WORKBOOKS)
_ONLY_ROWS = (".jsonl", ".ndjson", ".parquet", ".gz")
_FASTTEXT = re.compile(r"^\s*__label__\S", re.MULTILINE)


def kind_of(path: Path, sheet: str | None = None) -> Kind:
    """What a file holds, by its suffix and by how it begins.

    Raises
    ------
    DataError
        It is not there, is a taxonomy already, or is none of these.
    """
    _refuse_absent(path)
    suffix = path.suffix.lower()
    if suffix in _ONLY_ROWS:
        return "rows"
    if suffix in _TABLES:
        return "sheet" if _is_sheet(path, sheet) else "rows"
    if suffix == ".npy":
        return "hiclass"
    if suffix == ".json":
        return _kind_of_json(path)
    if suffix in (".txt", ".md", ".markdown", ".xml", ".list", ""):
        return _kind_of_text(path)
    if suffix in FORMATS:
        return "skos"
    if suffix in (".yaml", ".yml"):
        raise DataError(
            f"{path}: is YAML, a taxonomy already it seems: `cascade check {path}` says what of it"
        )
    raise DataError(f"{path}: which kind of file is it? Say it with --from: {', '.join(KINDS)}")


def _refuse_absent(path: Path) -> None:
    if str(path) == "-":
        raise DataError("rows on standard input cannot be named in a taxonomy; save them as a file")
    if not path.is_file():
        # It knows how to say what is there instead.
        RowFile.at(path)
        raise DataError(f"{path}: is no file")


def _is_sheet(path: Path, sheet: str | None) -> bool:
    """Whether a table is one of names: by its headers, or by short cells and no column of texts."""
    columns = columns_of(path, sheet)
    if is_sheet(columns):
        return True
    plain = {column.strip().casefold() for column in columns}
    return (
        plain.isdisjoint(TEXTS) and not any("text" in column for column in plain) and _is_short(path, sheet)
    )


def _is_short(path: Path, sheet: str | None) -> bool:
    """Whether every cell is as short as names are, and no row says again what another one says."""
    rows = [tuple(row) for row in read_table(path, sheet).rows if any(row)]
    cells = [cell for row in rows for cell in row]
    return len(set(rows)) == len(rows) and max(map(len, cells), default=0) <= _NAME_MOST


_NAME_MOST = 60


def _kind_of_json(path: Path) -> Kind:
    value = parsed(text_of(path), str(path)) if path.stat().st_size < _MOST_JSON else []
    if isinstance(value, dict) and ("@context" in value or "@graph" in value):
        return "skos"
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict) and "@id" in first:
        return "skos"
    is_row = isinstance(first, dict) and not {key.casefold() for key in first}.isdisjoint(TEXTS)
    return "rows" if is_row and isinstance(value, list) and "children" not in first else "json"


_MOST_JSON = 64 << 20


def _kind_of_text(path: Path) -> Kind:
    text = text_of(path)
    start = text.lstrip()
    if re.match(r"<\?xml|<!--|<\w", start):
        return "skos" if "<rdf:RDF" in start or "w3.org/2004/02/skos" in start else "label-studio"
    return "rows" if _FASTTEXT.search(text[:10_000]) else "outline"


def outline_of(path: Path, kind: Kind, *, language: str, sheet: str | None) -> Outline:
    """What a file of any kind but rows says; DataError where it says nothing, or not what was expected."""
    if kind == "skos":
        outline = read_skos(path, language)
    elif kind == "hiclass":
        outline = _of_hiclass(path, sheet)
    elif kind == "sheet":
        outline = read_sheet(read_table(path, sheet))
    elif kind == "json":
        outline = read_nested(parsed(text_of(path), str(path)), str(path))
    elif kind == "label-studio":
        from cascade.draft.label_studio import read_label_studio

        outline = read_label_studio(text_of(path), str(path))
    else:
        markdown = path.suffix.lower() in (".md", ".markdown")
        outline = read_outline(text_of(path), str(path), markdown=markdown)
    return refuse_empty(outline, str(path))


def _of_hiclass(path: Path, sheet: str | None) -> Outline:
    from cascade.draft.arrays import read_array, read_levels

    return read_array(path) if path.suffix.lower() == ".npy" else read_levels(read_table(path, sheet))
