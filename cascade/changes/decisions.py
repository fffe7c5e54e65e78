"""What a person says of labels whose way into another taxonomy nothing else tells; a small file of YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import DataError, Problem, suggestion
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.name_map import NameEntry, WrittenName, name_map_of, parse_name_map, read_name_map

_NONE, _REVIEW = ("none", "null", "~", ""), ("review", "?")
_PLAIN = re.compile(r"[A-Za-z_][\w/.-]*")
_HEAD = """\
# What becomes of these labels of {old} in {new}:
#   late: delivery_late    it is this label now
#   late: [early, delayed] it is one of these; its rows go into a queue for a person
#   late: review           a person says what it is
#   late: none             its rows lose it
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an old name.

    It is the one new name; or, where it `is_open`, one of `names` or whatever a person finds; or nothing.
    """

    names: tuple[str, ...]
    is_open: bool = False

    def without(self, taken: Collection[str]) -> Decision:
        """The same with fewer candidates; as it is where that would leave none."""
        left = tuple(name for name in self.names if name not in taken)
        return Decision(left, is_open=len(left) > 1) if self.is_open and left else self

    def yaml(self) -> str:
        """As it stands in a file."""
        if self.is_open and self.names:
            return f"[{', '.join(map(_written, self.names))}]"
        if self.is_open:
            return "review"
        return _written(self.names[0]) if self.names else "none"


@dataclass(frozen=True, slots=True)
class Question:
    """An old name of which nothing tells what it becomes.

    Attributes
    ----------
    proposal
        What it may be.
    rows
        How many have it.
    why
        It is asked, in words.
    """

    name: str
    proposal: Decision
    rows: int
    why: str


def _written(name: str) -> str:
    """A name as YAML that cannot be taken for anything else."""
    is_plain = _PLAIN.fullmatch(name) and name.casefold() not in (*_NONE, *_REVIEW)
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def decisions_yaml(questions: Sequence[Question], old: str, new: str) -> str:
    """A file of decisions with what is proposed, to be looked through."""
    lines = [f"{_written(one.name)}: {one.proposal.yaml()}" for one in questions]
    width = max(map(len, lines), default=0)
    told = [
        f"{line:<{width}}  # {one.rows:,} row{'' if one.rows == 1 else 's'}; {one.why}"
        for line, one in zip(lines, questions, strict=True)
    ]
    return _HEAD.format(old=old, new=new) + "".join(f"{line}\n" for line in told)


def told_yaml(decisions: Mapping[str, str]) -> str:
    """A file of decisions that were made: old names with what `Decision.yaml` gives."""
    return "".join(f"{_written(name)}: {told}\n" for name, told in decisions.items())


def read_decisions(path: str | Path, old: Taxonomy, new: Taxonomy) -> dict[str, Decision]:
    """The decisions in a file of YAML, by old names.

    Raises
    ------
    DataError
        With every complaint about it, each with its place.
    """
    return _decisions(read_name_map(path), old, new)


def decisions_of(given: Mapping[str, Any], old: Taxonomy, new: Taxonomy) -> dict[str, Decision]:
    """The same from Python values: a name, a list of names, ``review``, or None; raises as that does."""
    return _decisions(name_map_of(given, "<decisions>"), old, new)


def said_of(name: str, text: str, old: Taxonomy, new: Taxonomy) -> Decision:
    """The decision about one old name, written as in a file; raises DataError as `read_decisions` does."""
    entries = parse_name_map(f"{_written(name)}: {text}", "<answer>")
    return _decisions(entries, old, new)[name]


def _decisions(entries: Sequence[NameEntry], old: Taxonomy, new: Taxonomy) -> dict[str, Decision]:
    faults: list[Problem] = []
    found: dict[str, Decision] = {}
    for entry in entries:
        name = old.resolve(entry.key.name)
        if name is None:
            hint = suggestion(entry.key.name, old.spellings())
            message = f"{entry.key.name!r} is no label and no group of the old taxonomy.{hint}"
            faults.append(Problem(entry.key.place, message))
        elif name in found:
            faults.append(Problem(entry.key.place, f"{name!r} is decided twice; keep one"))
        else:
            found[name] = _decision(entry, new, faults)
    if faults:
        raise DataError("\n".join(map(str, faults)))
    return found


def _decision(entry: NameEntry, new: Taxonomy, faults: list[Problem]) -> Decision:
    if not entry.is_list and new.resolve(entry.values[0].name) is None:
        word = entry.values[0].name.casefold()
        if word in (*_NONE, *_REVIEW):
            return Decision((), is_open=word in _REVIEW)
    names = dict.fromkeys(_new_name(one, new, faults) for one in entry.values)
    return Decision(tuple(names), is_open=len(names) > 1)


def _new_name(written: WrittenName, new: Taxonomy, faults: list[Problem]) -> str:
    name = new.resolve(written.name)
    if name is None:
        hint = new.suggest(written.name)
        message = f"{written.name!r} is no label and no group of the new taxonomy.{hint}"
        faults.append(Problem(written.place, message))
    return name or ""
