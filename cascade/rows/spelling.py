"""Names written as other names were: in the same case, with the same blanks, as paths, lists or cells."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cascade.rows.cells import HOLDERS, LabelParser, is_missing, listed
from cascade.rows.names import KnownNames, folded
from cascade.rows.readings import Reading
from cascade.rows.row import RefusedError
from cascade.taxonomy.definition import Taxonomy

_SPACED: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: name.replace("_", " "),
    lambda name: name.replace("_", "-"),
    lambda name: name.replace(" ", "_"),
)
_CASES: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    str.lower,
    str.upper,
    str.capitalize,
    str.title,
)


@dataclass(frozen=True)
class NewLabels:
    """What becomes of the labels of a row.

    Attributes
    ----------
    labels
        All that it has then, each once.
    became
        Each label that it had -> those of them that stand in its place.
    """

    labels: tuple[str, ...]
    became: Mapping[str, tuple[str, ...]]

    @cached_property
    def is_other(self) -> bool:
        """Whether it is not the labels that there were."""
        return any(now != (old,) for old, now in self.became.items()) or len(self.became) != len(self.labels)


def spelled_like(written: str, old: str, new: str) -> str:
    """`new` in the case and with the blanks in which `old` was written as `written`.

    As it is where `written` has nothing of `old`, such as an alias.
    """
    for space in _SPACED:
        for case in _CASES:
            if case(space(old)) == written:
                return case(space(new))
    return new


@dataclass
class Habits:
    """How a file writes what one cell does not show: counted over its rows."""

    between: Counter[str] = field(default_factory=Counter)
    none: Counter[str] = field(default_factory=Counter)
    yes: Counter[str] = field(default_factory=Counter)
    no: Counter[str] = field(default_factory=Counter)


def usual(counts: Counter[str], default: str) -> str:
    """What was seen most often; of equals the one that was seen first."""
    return counts.most_common(1)[0][0] if counts else default


class CellSpelling:
    """Cells of labels, in the spelling that they had.

    Parameters
    ----------
    before, after
        The names that were, and those to be written.
    taxonomy
        Of the names to be written.
    last_name
        What an old name is at the end of its path.
    """

    def __init__(
        self,
        reading: Reading,
        before: KnownNames,
        after: KnownNames,
        taxonomy: Taxonomy,
        last_name: Callable[[str], str],
    ) -> None:
        self._reading, self._before, self._after, self._taxonomy = reading, before, after, taxonomy
        self._last_name = last_name
        self._old = LabelParser(before, reading.delimiter, reading.path_separator)
        self._new = LabelParser(after, reading.delimiter, reading.path_separator)
        self.habits = Habits()
        self._around = re.compile(rf"\s*{re.escape(reading.delimiter)}\s*")

    def look_at(self, value: Any) -> None:
        """Learn how a cell writes no label, and what it has between names."""
        if not isinstance(value, str):
            return
        if self._before.is_none(value.strip()):
            self.habits.none[value] += 1
        elif self._is_delimited(value) and (found := self._around.search(value.strip())):
            self.habits.between[found.group()] += 1

    @property
    def none(self) -> str:
        """A cell without labels."""
        return usual(self.habits.none, "")

    def labels(self, value: Any) -> tuple[str, ...]:
        """The old labels of a cell; empty where they cannot be told."""
        try:
            return self._old.labels(value, "")
        except RefusedError:
            return ()

    def cells(self, value: Any, new: NewLabels) -> Iterator[Any]:
        """The cell with the new labels, as near as can be to what it was; then ways that are safer."""
        if not isinstance(value, str):
            yield self._structure(value, new)
            yield list(new.labels)
            return
        lead = value[: len(value) - len(value.lstrip())]
        tail = value[len(value.rstrip()) :] if value.strip() else ""
        if not new.labels:
            yield value if self._before.is_none(value.strip()) else self.none
            yield ""
            return
        for cell in self._texts(value.strip(), new):
            yield f"{lead}{cell}{tail}"

    def _texts(self, cell: str, new: NewLabels) -> Iterator[str]:
        value = None if self._is_delimited(cell) else listed(cell, self._reading.delimiter)
        if value is None:
            alone = [cell] if self._before.is_exact(cell) else cell.split(self._reading.delimiter)
            names = self._names([one.strip() for one in alone], new)
            found = self._around.search(cell) if len(alone) > 1 else None
            between = found.group() if found else usual(self.habits.between, self._reading.delimiter)
            yield between.join(names)
        else:
            yield _printed_like(cell, self._structure(value, new))
            names = list(new.labels)
        yield json.dumps(names, ensure_ascii=False)
        yield json.dumps(list(new.labels), ensure_ascii=False)

    def _is_delimited(self, cell: str) -> bool:
        cell = cell.strip()
        return self._before.is_exact(cell) or not (cell[:1] in "[({" or cell.endswith(")"))

    def _structure(self, value: Any, new: NewLabels) -> Any:
        """A list or an object of labels."""
        if isinstance(value, Mapping):
            return self._object(value, new)
        if isinstance(value, list | tuple | set | frozenset):
            return self._names(list(value), new)
        return list(new.labels)

    def _object(self, value: Mapping[Any, Any], new: NewLabels) -> dict[Any, Any]:
        """Labels with whether each holds, or an object that holds them under a usual key."""
        usual_keys = [key for key in value if folded(str(key)) in HOLDERS]
        held = [key for key in usual_keys if self._before.resolve(str(key)) is None]
        if len(held) != 1:
            return self._told_each(value, new)
        inside = value[held[0]]
        cell = next(self.cells(inside, new)) if isinstance(inside, str) else self._structure(inside, new)
        return {**value, held[0]: cell}

    def _told_each(self, value: Mapping[Any, Any], new: NewLabels) -> dict[Any, Any]:
        """Labels with whether each holds; what is not told of a label says that it does not hold."""
        yes = next((told for key, told in value.items() if self.labels({str(key): told})), 1)
        no = next((told for key, told in value.items() if not self.labels({str(key): told})), 0)
        keys: dict[str, str] = {}
        for key in map(str, value):
            old = str(self._before.resolve(key))
            for label in new.became.get(old, self._kept(old)):
                keys.setdefault(label, self._name(key, old, label))
        keys |= {label: label for label in new.labels if label not in keys}
        return {key: yes if label in new.labels else no for label, key in keys.items()}

    def _kept(self, old: str) -> tuple[str, ...]:
        found = self._after.resolve(old)
        return () if found is None else (found,)

    def _names(self, tokens: Sequence[Any], new: NewLabels) -> list[Any]:
        """Names in their order, each in the place and the spelling of the one that it comes from."""
        left = dict.fromkeys(new.labels)
        found: list[Any] = []
        for token in tokens:
            for old in self.labels([token]):
                for label in new.became.get(old, ()):
                    if label in left:
                        del left[label]
                        found.append(self._token(token, old, label))
        return [*found, *left]

    def _token(self, token: Any, old: str, label: str) -> Any:
        if old == label and self._reads(token, label):
            return token
        if isinstance(token, str):
            return self._name(token, old, label)
        if isinstance(token, list | tuple):
            return list(self._taxonomy.path_to(label))
        if isinstance(token, Mapping):
            return {key: label if folded(str(key)) in HOLDERS else one for key, one in token.items()}
        return label

    def _reads(self, token: Any, label: str) -> bool:
        try:
            return self._new.labels([token], "") == (label,)
        except RefusedError:
            return False

    def _name(self, written: str, old: str, label: str) -> str:
        separator = self._reading.path_separator
        if separator is None or separator not in written:
            return spelled_like(written.strip(), old, label)
        return self._path(written, separator, old, label)

    def _path(self, written: str, separator: str, old: str, label: str) -> str:
        found = re.search(rf"\s*{re.escape(separator)}\s*", written)
        steps = [step.strip() for step in written.split(separator)]
        return (found.group() if found else separator).join(self.steps(label, steps, old))

    def steps(self, label: str, written: Sequence[str], old: str) -> list[str]:
        """The path to a label, with steps that were `written` before, the last for `old`, as they were."""
        known = {folded(step): step for step in written if step}
        end, last = (written[-1] if written else ""), self._last_name(old)
        return [
            known.get(folded(one)) or spelled_like(end, last, one) for one in self._taxonomy.path_to(label)
        ]


def _printed_like(cell: str, value: Any) -> str:
    """A list or an object as JSON, Python or NumPy print it, or in bare brackets, whichever `cell` is."""
    with suppress(ValueError):
        json.loads(cell)
        is_compact = ", " not in cell and ": " not in cell and "," in cell
        return json.dumps(value, ensure_ascii=False, separators=(",", ":") if is_compact else (", ", ": "))
    inside = cell[1:-1].strip()
    if not inside.startswith(("'", '"', "{")) and isinstance(value, list) and "'" not in cell:
        return f"{cell[0]}{', '.join(map(str, value))}{cell[-1]}"
    if isinstance(value, list) and len(value) > 1 and "' '" in cell:
        return f"[{' '.join(map(repr, value))}]"
    return repr(value)


def is_empty(value: Any) -> bool:
    return is_missing(value) or value in ("", [])
