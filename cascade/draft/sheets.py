"""A taxonomy that was written as a table: parents and children, or a column a level."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cascade.draft.concepts import Concept, Edge, Outline, PathEntry, graph_of, tree_of
from cascade.draft.paths import separator_of, split_path
from cascade.draft.tables import Table
from cascade.errors import DataError

PARENTS = ("parent", "parent name", "parent label", "parent category", "parent id", "broader", "parent term")
CHILDREN = ("child", "name", "label", "category", "term", "title", "concept", "topic", "tag", "node")
IDS = ("id", "key", "code", "identifier")
SAID = ("description", "definition", "meaning", "scope note", "note", "notes")
ALIASES = ("alias", "aliases", "synonym", "synonyms", "also known as", "other names", "alternative labels")
PATHS = ("path", "full path")
_LEVEL = re.compile(
    r"(level|lvl|l|tier|depth|group|sub ?group|main|category|sub ?category|class|subclass|label|sub ?label|"
    r"topic|sub ?topic|theme|sub ?theme|domain|area|family|type|"
    r"ebene|niveau|nivel|categoria|kategorie)s?[ _-]?\d*"
)
_MOST_TITLES = 5
_ALIAS_MARKS = re.compile(r"\s*[;|\n]\s*")


@dataclass(frozen=True)
class _Columns:
    names: list[int]
    said: int | None
    aliases: int | None


def read_sheet(table: Table) -> Outline:
    """The names of a table, of whichever of these shapes it is.

    * A column of parents beside one of names, by their headers; with a column of ids, parents may be ids.
    A name under
      several parents is one thing with several parents.
    * A column of paths, such as ``Billing > Refund``.
    * A column a level, coarsest first, with or without headers. A cell that is empty before the first
    filled one
      of its row is that of the row above: the same parent.

    Columns headed description or aliases (synonyms; separated by ``;`` or ``|``) say more of the last name of
    a row.

    Raises
    ------
    DataError
        A parent is missing, a cycle, a path with an empty part; with the row.
    """
    rows = [(number, row) for number, row in enumerate(table.rows) if any(row)]
    if not rows:
        raise DataError(f"{table.source}: the table is empty; expected names")
    rows = rows[title_rows([row for _, row in rows]) :]
    header = [_plain(cell) for cell in rows[0][1]]
    if _find(header, PARENTS) is not None:
        return Outline(_of_parents(table, header, rows[1:]))
    body = rows[1:] if _is_header(header) else rows
    columns = _level_columns(header if _is_header(header) else [], table)
    return Outline(tree_of(_of_levels(table, columns, body)))


def _plain(cell: str) -> str:
    return cell.casefold().replace("_", " ").strip()


def _find(header: Sequence[str], known: Sequence[str]) -> int | None:
    return next((header.index(name) for name in known if name in header), None)


def _is_header(header: Sequence[str]) -> bool:
    return any(
        cell in (*SAID, *ALIASES, *PATHS, *CHILDREN) or _LEVEL.fullmatch(cell) for cell in header if cell
    )


def title_rows(rows: Sequence[Sequence[str]]) -> int:
    """How many rows stand above the headers, each with one cell filled; none where there are no headers."""
    for number, row in enumerate(rows[:_MOST_TITLES]):
        filled = [_plain(cell) for cell in row if cell]
        if len(filled) > 1:
            return number if _is_header(filled) or _find(filled, PARENTS) is not None else 0
    return 0


def is_sheet(header: Sequence[str]) -> bool:
    """Whether columns of these names are those of a taxonomy, rather than of rows with texts."""
    plain = [_plain(cell) for cell in header if cell.strip()]
    known = (*PARENTS, *CHILDREN, *IDS, *SAID, *ALIASES, *PATHS)
    return bool(plain) and all(cell in known or _LEVEL.fullmatch(cell) for cell in plain)


# Parents and children


def _of_parents(table: Table, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> list[Concept]:
    parent_at, name_at = _find(header, PARENTS), _find(header, CHILDREN)
    id_at = _find(header, IDS)
    name_at = id_at if name_at is None else name_at
    if parent_at is None or name_at is None:
        named = ", ".join(repr(cell) for cell in header if cell)
        raise DataError(
            f"{table.source}: a column of parents, and none of names; there are {named}. Expected one headed "
            "'name', 'label' or 'child'"
        )
    by_id = id_at is not None and (
        header[parent_at] == "parent id" or _parents_are_ids(rows, parent_at, id_at)
    )
    key_at = id_at if by_id and id_at is not None else name_at
    said, aliases = _find(header, SAID), _find(header, ALIASES)
    concepts: dict[str, Concept] = {}
    edges: list[Edge] = []
    for number, row in rows:
        key = row[key_at] or row[name_at]
        if not row[name_at]:
            raise DataError(f"{table.place(number)}: no name in the column {header[name_at]!r}")
        concept = concepts.setdefault(key, Concept(row[name_at]))
        concept.description = concept.description or _at(row, said)
        concept.aliases = tuple(dict.fromkeys((*concept.aliases, *_aliases(_at(row, aliases)))))
        if row[parent_at]:
            edges.append(Edge(row[parent_at], key, table.place(number)))
    for edge in edges:
        if edge.parent not in concepts:
            if key_at == id_at:
                raise DataError(f"{edge.place}: the parent {edge.parent!r} is no id of any row")
            concepts[edge.parent] = Concept(edge.parent)
    return graph_of(edges, concepts, table.source)


def _parents_are_ids(rows: Sequence[tuple[int, list[str]]], parent_at: int, id_at: int) -> bool:
    ids = {row[id_at] for _, row in rows}
    return all(row[parent_at] in ids for _, row in rows if row[parent_at])


# A column a level


def _level_columns(header: Sequence[str], table: Table) -> _Columns:
    width = len(table.rows[0])
    said, aliases = _find(header, SAID), _find(header, ALIASES)
    names = [
        column
        for column in range(width)
        if column not in (said, aliases)
        and any(row[column] for row in table.rows)
        and not (header and (not header[column] or header[column] in IDS))
    ]
    if not names:
        raise DataError(f"{table.source}: no column of names; expected a column a level")
    return _Columns(names, said, aliases)


def _of_levels(table: Table, columns: _Columns, rows: Sequence[tuple[int, list[str]]]) -> Iterator[PathEntry]:
    single = [row[columns.names[0]] for _, row in rows] if len(columns.names) == 1 else []
    separator = separator_of([cell for cell in single if cell])
    before: list[str] = []
    for number, row in rows:
        cells = [row[column] for column in columns.names]
        if not any(cells):
            continue
        path = (
            list(split_path(cells[0], separator))
            if separator
            else _filled(cells, before, table.place(number))
        )
        before = path
        yield PathEntry(
            tuple(path), table.place(number), _at(row, columns.said), _aliases(_at(row, columns.aliases))
        )


def _filled(cells: Sequence[str], before: Sequence[str], place: str) -> list[str]:
    """The path of a row: what is empty in front is as in the row above, what is empty behind is not there."""
    first = next(at for at, cell in enumerate(cells) if cell)
    last = max(at for at, cell in enumerate(cells) if cell)
    if first > len(before):
        shown = " > ".join(cell or "..." for cell in cells[: last + 1])
        raise DataError(f"{place}: no name above {cells[first]!r}: {shown!r}; expected one at each level")
    return [*before[:first], *cells[first : last + 1]]


def _at(row: Sequence[str], column: int | None) -> str:
    return "" if column is None else row[column]


def _aliases(cell: str) -> tuple[str, ...]:
    return tuple(alias for alias in _ALIAS_MARKS.split(cell) if alias)
