"""What a name means where names are paths: by which groups, under which alias, and how short it may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from cascade.errors import nearest
from cascade.taxonomy.graph import ROOT

Names = Literal["plain", "path"]

SEPARATOR = "/"
_MOST_SHOWN = 5
_END, _WHOLE = 1, 2


def joined(group: str, name: str) -> str:
    """The path of what is called `name` in a group."""
    return f"{group}{SEPARATOR}{name}" if group else name


@dataclass(frozen=True)
class PathNames:
    """Finds what a path, or the end of one, means.

    Attributes
    ----------
    parts : name of each node but the root -> what may stand for it in a path: its last name, then its aliases
    parents : name of each node -> its parents, the root among them
    """

    parts: Mapping[str, Sequence[str]]
    parents: Mapping[str, Sequence[str]]
    _found: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def resolve(self, text: str) -> str | None:
        """The one node that `text` can mean; None where there is none, or more than one."""
        if text in self.parts:
            return text
        if text not in self._found:
            found = self.candidates(text)
            if len(found) != 1:
                return None
            self._found[text] = found[0]
        return self._found[text]

    def candidates(self, text: str) -> tuple[str, ...]:
        """All that `text` can mean: a whole path if it is one, else every node whose path ends so."""
        if text in self.parts:
            return (text,)
        found = dict(self._matches(text))
        whole = tuple(node for node, extent in found.items() if extent == _WHOLE)
        return whole or tuple(found)

    def at(self, path: str) -> str | None:
        """The one node that has this whole path, by whichever parents, or this alias; else None."""
        found = [
            node for node, extent in self._matches(path) if extent == _WHOLE or path in self.parts[node][1:]
        ]
        return path if path in found else found[0] if len(found) == 1 else None

    def suggest(self, text: str) -> str:
        """What may have been meant by a text that `resolve` does not know, as a sentence after a blank.

        `` 'other' may be 'money/other' or 'goods/other'; write the path.`` or `` Did you mean 'x'?``; empty
        where nothing is like it.
        """
        if meant := self.candidates(text):
            return f" {text!r} may be {any_of(meant)}; write the path."
        near = nearest(text, self._all_written)
        return f" Did you mean {any_of(self.candidates(near))}?" if near is not None else ""

    def spellings(self) -> Iterator[str]:
        """Whole paths of all nodes, by each parent and with each alias, and all their ends."""
        for node in self.parts:
            for path in self._whole_paths(node):
                steps = path.split(SEPARATOR)
                yield from (SEPARATOR.join(steps[start:]) for start in range(len(steps)))

    def _whole_paths(self, node: str) -> Iterator[str]:
        groups = [ROOT] if ROOT in self.parents[node] else []
        groups += [path for group in self.parents[node] if group != ROOT for path in self._whole_paths(group)]
        for part in self.parts[node]:
            yield from (joined(group, part) for group in groups)

    def _matches(self, text: str) -> Iterator[tuple[str, int]]:
        """The nodes whose path ends with `text`, and whether that is all of the path."""
        ends = [place + 1 for place, letter in enumerate(text) if letter == SEPARATOR]
        nodes = dict.fromkeys(node for start in (0, *ends) for node in self._owners.get(text[start:], ()))
        return ((node, extent) for node in nodes if (extent := self._extent(node, text)))

    def _extent(self, node: str, text: str) -> int:
        """How much of a path of `node` the text is: 0 where it is the end of none.

        Parts differ among the children of a group, so that each group above is looked at but once.
        """
        extent = 0
        for part in self.parts[node]:
            if text == part:
                extent = max(extent, _WHOLE if ROOT in self.parents[node] else _END)
            elif text.endswith(SEPARATOR + part):
                above = text[: -len(SEPARATOR + part)]
                groups = (group for group in self.parents[node] if group != ROOT)
                extent = max([extent, *(self._extent(group, above) for group in groups)])
        return extent

    @cached_property
    def _owners(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for node, parts in self.parts.items():
            for part in parts:
                found.setdefault(part, []).append(node)
        return found

    @cached_property
    def _all_written(self) -> tuple[str, ...]:
        """Paths, and last names and aliases alone."""
        return tuple(dict.fromkeys((*self.parts, *self._owners)))


def any_of(names: Sequence[str]) -> str:
    """``'a', 'b' or 'c'``, and how many more there are."""
    shown, more = list(map(repr, names[:_MOST_SHOWN])), len(names) - _MOST_SHOWN
    *most, last = [*shown, f"{more} more"] if more > 0 else shown
    return f"{', '.join(most)} or {last}" if most else last
