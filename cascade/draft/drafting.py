"""From a file to the text of a taxonomy, with rows for tests where there were none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cascade.checks.counts import few_rows, no_rows
from cascade.checks.duplicates import conflicting_labels, near_identical_names, same_rows
from cascade.checks.subject import Subject
from cascade.draft.concepts import Outline, clean_name, needs_paths, settle_aliases, walk
from cascade.draft.grouped_rows import outline_of_rows
from cascade.draft.labelled import Asked, LabelledRows, read_labelled
from cascade.draft.sources import Kind, kind_of, outline_of
from cascade.draft.split import ROWS_LEAST, rows_for_tests, suffix_for, write_rows
from cascade.draft.yaml_text import Head, written
from cascade.errors import DataError, TaxonomyError
from cascade.grouping.meaning import Encode
from cascade.rows.row import BadRow, Row
from cascade.system.files import atomic_write
from cascade.taxonomy.definition import Taxonomy

_RULES_OF_NAMES = (near_identical_names,)
_RULES = (no_rows, few_rows, near_identical_names, same_rows, conflicting_labels)
_SHOWN = 20


@dataclass(frozen=True)
class Request:
    """What is to be drafted, and where it goes; `encode` is an encoder that helps to propose groups."""

    source: Path
    out: Path
    kind: Kind | None = None
    name: str | None = None
    groups: int | None = None
    language: str = "en"
    test: Path | None = None
    asked: Asked = field(default_factory=Asked)
    encode: Encode | None = None


@dataclass
class Draft:
    """A taxonomy file in the making, and the files of rows that go with it.

    `told` are sentences for the user: how the source was understood, and what is doubtful. Nothing is
    written before `write`.
    """

    out: Path
    text: str
    told: list[str]
    rows: dict[Path, list[Row]]
    refused: list[BadRow]

    @property
    def files(self) -> list[Path]:
        """All files that `write` writes, the taxonomy last."""
        return [*self.rows, self.out]

    def write(self) -> None:
        """Write all files, each whole or not at all."""
        for path, rows in self.rows.items():
            write_rows(path, rows)
        with atomic_write(self.out) as file:
            file.write(self.text.encode())


def draft(request: Request) -> Draft:
    """The taxonomy that a file holds or that its labelled rows suggest.

    Raises
    ------
    DataError
        The file cannot be read or understood, there are no labels in it, or what it says makes no taxonomy.
    """
    kind = request.kind or kind_of(request.source, request.asked.sheet)
    if kind == "rows":
        return _of_rows(request)
    outline = outline_of(request.source, kind, language=request.language, sheet=request.asked.sheet)
    if not any(concept.is_group for concept in outline.top):
        outline = outline_of_rows(outline, [], [], request.groups, encode=request.encode)
    return _finished(request, outline, _Rows(), [f"{request.source}: read as {kind}"])


@dataclass
class _Rows:
    """Rows of training and of tests, the files that are to hold them, and what the taxonomy says of these."""

    data: dict[str, Any] = field(default_factory=dict)
    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    new: dict[Path, list[Row]] = field(default_factory=dict)
    refused: list[BadRow] = field(default_factory=list)


# Rows


def _of_rows(request: Request) -> Draft:
    read = read_labelled(request.source, request.asked)
    test = request.test or _beside(request.source)
    # Labels of test rows alone are labels too; nothing else is learned from these rows.
    others = read_labelled(test, request.asked).paths if test else []
    texts = [row.text for row in read.rows]
    source = str(request.source)
    outline = outline_of_rows(
        None, texts, read.paths, request.groups, source=source, others=others, encode=request.encode
    )
    rows = _Rows(train=_canonical(read, needs_paths(outline.top)), refused=read.refused)
    told = [_how_read(request, read)]
    if test:
        told.append(f"test rows: {test}")
        files = {"train": _relative(request.source, request), "test": _relative(test, request)}
    else:
        files = _split(request, rows, told)
    # What is written here is UTF-8, and no workbook.
    own = {key: value for key, value in read.data.items() if not rows.new or key not in ("encoding", "sheet")}
    rows.data = {**files, **own}
    return _finished(request, outline, rows, told)


def _how_read(request: Request, read: LabelledRows) -> str:
    none = sum(not own for own in read.paths)
    rest = f"; {none:,} have none" if none else ""
    return f"{request.source}: {_counted(len(read.rows), 'row')}, {read.told}{rest}"


def _canonical(read: LabelledRows, paths: bool) -> list[Row]:
    """The rows with labels as the taxonomy has them: whole paths, or last names."""
    labels = [tuple("/".join(path) if paths else path[-1] for path in own) for own in read.paths]
    return [row._replace(labels=own) for row, own in zip(read.rows, labels, strict=True)]


def _beside(source: Path) -> Path | None:
    """The file of test rows beside one of training rows: ``test.csv`` beside ``train.csv``."""
    name = re.sub(
        r"(?i)(?<![a-z])train(ing)?(?![a-z])", lambda found: _in_case("test", found[0]), source.name, count=1
    )
    other = source.with_name(name)
    return other if name != source.name and other.is_file() else None


def _in_case(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word


def _split(request: Request, rows: _Rows, told: list[str]) -> dict[str, str]:
    """The files to be written, a fifth of the rows for tests; few rows are all for training."""
    every = rows.train
    if len(every) < ROWS_LEAST:
        told.append(f"no split: of {len(every):,} rows none can be spared for tests")
        return {"train": _relative(request.source, request)}
    is_test = rows_for_tests([row.text for row in every], [row.labels for row in every])
    stem, suffix = request.source.name.split(".")[0], suffix_for(request.source)
    train, test = (request.out.with_name(f"{stem}_{side}{suffix}") for side in ("train", "test"))
    rows.train = [row for row, left in zip(every, is_test, strict=True) if not left]
    rows.test = [row for row, left in zip(every, is_test, strict=True) if left]
    rows.new = {train: rows.train, test: rows.test}
    told.append(
        f"split: {len(rows.train):,} rows for training in {train}, {len(rows.test):,} for tests in {test}; "
        "nearly equal texts are on one side"
    )
    return {"train": train.name, "test": test.name}


def _relative(path: Path, request: Request) -> str:
    """A path as the taxonomy names it: from its own folder."""
    folder = request.out.absolute().parent
    try:
        return Path(os.path.relpath(path.absolute(), folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


# The file


def _finished(request: Request, outline: Outline, rows: _Rows, told: list[str]) -> Draft:
    told += settle_aliases(outline.top)
    paths = needs_paths(outline.top)
    top = Head(name=request.name or _name_of(outline, request.source), data=rows.data, paths=paths)
    places = list(walk(outline.top))
    groups = {id(concept) for _, concept in places if concept.is_group}
    labels = {id(concept) for _, concept in places if not concept.is_group}
    within = f" in {_counted(len(groups), 'group')}" if groups else ""
    told += [_counted(len(labels), "label") + within, *outline.told]
    doubts = _doubts(_checked(written(outline, top), request), rows)
    text = written(outline, replace(top, comments=[*_head(request), *doubts]))
    return Draft(request.out, text, told + doubts, rows.new, rows.refused)


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _head(request: Request) -> list[str]:
    drafted = f"Drafted by `cascade init {request.source.name}`."
    return [f"{drafted} Look through names and groups, and change what you like."]


def _name_of(outline: Outline, source: Path) -> str:
    """A name that can be a folder's, from the source's own name or that of its file."""
    name = outline.name or source.name.split(".")[0]
    plain = re.sub(r"[^\w-]+", "_", clean_name(name)).strip("_")[:60]
    return plain.casefold() or "taxonomy"


def _doubts(taxonomy: Taxonomy, rows: _Rows) -> list[str]:
    """What people should look at, as sentences."""
    subject = Subject(taxonomy, tuple(rows.train), tuple(rows.test), ())
    found = [one for rule in (_RULES if rows.train else _RULES_OF_NAMES) for one in rule(subject)]
    lines = [line for one in found for line in (f"{one.message}:", f"  {'; '.join(one.examples)}")]
    # Lines of a file that gets these very lines above its names.
    place = re.compile(rf" \({re.escape(Path(taxonomy.source).name)}:[\d:]+\)")
    return [*_shared(taxonomy), *(place.sub("", line) for line in lines)]


def _shared(taxonomy: Taxonomy) -> list[str]:
    """Labels of several groups, which may be several things of one name."""
    parents = ((label, taxonomy.graph.parents[label]) for label in taxonomy.labels)
    shared = [f"{label!r} in {' and '.join(above)}" for label, above in parents if len(above) > 1]
    if not shared:
        return []
    more = [f"and {len(shared) - _SHOWN:,} more"] if len(shared) > _SHOWN else []
    way_out = "" if taxonomy.names == "path" else "; if they are several things, write `names: path`"
    count = "1 label stands" if len(shared) == 1 else f"{len(shared):,} labels stand"
    return [f"{count} in several groups{way_out}:", f"  {'; '.join([*shared[:_SHOWN], *more])}"]


def _checked(text: str, request: Request) -> Taxonomy:
    """The taxonomy that was drafted; a fault in it is one of the source, which has no such line."""
    try:
        return Taxonomy.of_text(text, str(request.out), base=request.out.parent)
    except TaxonomyError as error:
        found = dict.fromkeys(problem.message for problem in error.problems)
        more = f"\n... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        shown = "\n".join(f"{request.source}: {message}" for message in list(found)[:_SHOWN])
        raise DataError(shown + more) from error
