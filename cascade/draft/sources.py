"""Which kind of source a file is, and its outline."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from cascade.draft.concepts import Outline, refuse_empty
from cascade.draft.nested import parsed, read_nested
from cascade.draft.outlines import read_outline
from cascade.draft.sheets import is_sheet, read_sheet, title_rows
from cascade.draft.skos import FORMATS, read_skos
from cascade.draft.tables import read_table, text_of
from cascade.errors import DataError
from cascade.rows.files import RowFile
from cascade.rows.names import folded
from cascade.rows.shapes import format_of
from cascade.rows.workbooks import WORKBOOKS
from cascade.taxonomy.patterns import is_dataset_folder

Kind = Literal["rows", "sheet", "outline", "json", "skos", "label-studio", "hiclass"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_TABLES = (".csv", ".tsv", *WORKBOOKS)
_ONLY_ROWS = (".jsonl", ".ndjson", ".parquet", ".arrow", ".gz", ".bz2", ".xz", ".zst", ".zip")
TEXTS = frozenset(
    ("text", "comment", "message", "utterance", "body", "sentence", "content", "query", "question", "review")
)
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
    if suffix in _ONLY_ROWS or path.is_dir():
        return "rows"
    if suffix in _TABLES:
        return "sheet" if path.stat().st_size <= _MOST_LOOKED_AT and _is_sheet(path, sheet) else "rows"
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
    if not path.is_file() and not is_dataset_folder(path):
        # It knows how to say what is there instead.
        RowFile.at(path)
        raise DataError(f"{path}: is no file")


def _is_sheet(path: Path, sheet: str | None) -> bool:
    """Whether a table is one of names: by its headers, or by short cells and no column of texts."""
    rows = [tuple(row) for row in read_table(path, sheet).rows if any(row)]
    rows = rows[title_rows(rows) :]
    header = rows[0] if rows else ()
    if is_sheet(header):
        return True
    if any(is_text_column(column) for column in header):
        return False
    return len(set(rows)) == len(rows) and _are_levels(list(zip(*rows, strict=True)))


def _are_levels(columns: Sequence[Sequence[str]]) -> bool:
    """Whether cells are as short as names are, and the first of several columns repeats or has gaps."""
    cells = [cell for column in columns for cell in column if cell]
    words = sum(len(cell.split()) for cell in cells)
    is_short = words <= _WORDS_MOST * len(cells) and max(map(len, cells), default=0) <= _NAME_MOST
    return is_short and (len(columns) < 2 or "" in columns[0] or len(set(columns[0])) < len(columns[0]))


def is_text_column(name: str) -> bool:
    """Whether a column is called as columns of texts are."""
    plain = folded(name)
    return plain in TEXTS or "text" in plain.split()


_NAME_MOST = 60
_WORDS_MOST = 3
_MOST_LOOKED_AT = 8 << 20
"""No table of names is larger; rows are not to be held to be looked at."""


def _kind_of_json(path: Path) -> Kind:
    if path.stat().st_size > _MOST_JSON:
        return "rows"
    text = text_of(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # One object a line is rows; anything else is complained of where it is read.
        return "rows" if _is_json_line(text) else "json"
    if isinstance(value, dict) and ("@context" in value or "@graph" in value):
        return "skos"
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return "json"
    if "@id" in first:
        return "skos"
    is_row = format_of([first]) != "plain" or any(map(is_text_column, first))
    return "rows" if is_row and "children" not in first else "json"


def _is_json_line(text: str) -> bool:
    try:
        return isinstance(json.loads(text.lstrip().split("\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False


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
