"""Label names as people write them: another case, blanks for underscores, paths, words for none."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Protocol

from cascade.rows.row import SHOWN_CHARACTERS, RefusedError, quoted

# Searching for the nearest name takes milliseconds, and a wrong column can hold a million unknown ones.
_SUGGESTIONS_PER_FILE = 200
_BETWEEN_WORDS = re.compile(r"[\s_-]+")

_PREFIXED = re.compile(
    r"(?:labels?|topics?|categor(?:y|ies)|tags?|intents?|class(?:es)?|is|has|cats?)[\s_.:/\-]+(.+)",
    re.IGNORECASE,
)

NONE_WORDS = frozenset(
    (
        *(
            "",
            "--",
            "\u2013",
            "\u2014",
            "none",
            "null",
            "nil",
            "nan",
            "na",
            "n/a",
            "n.a.",
            "#n/a",
            "<na>",
            "nat",
        ),
        *("(none)", "<none>", "[none]", "[]", "{}", "()", "no label", "no labels", "none of these"),
        *("none of the above", "nothing", "not applicable", "unlabeled", "unlabelled", "empty", "blank"),
        *("keine", "keines", "ohne", "aucun", "aucune", "ninguno", "ninguna", "nessuno", "nessuna", "geen"),
        *("nenhum", "nenhuma", "ingen", "brak", "нет", "なし", "无", "無"),
    )
)
"""Folded words that say that a row has no label, unless a label has that name."""


class LabelNames(Protocol):
    """The names that labels may have; a taxonomy is one."""

    def resolve(self, name: str) -> str | None:
        """Canonical name for a name or an alias, None when unknown."""

    def suggest(self, name: str) -> str:
        """`` Did you mean 'x'?``, or an empty string."""

    def spellings(self) -> Iterable[str]:
        """All names that `resolve` knows."""

    def is_below(self, name: str, group: str) -> bool:
        """Whether the canonical `name` stands in the canonical `group`, at any depth."""


def folded(name: str) -> str:
    """What names have in common that differ in case, blanks, underscores, accents' form or HTML entities."""
    plain = unicodedata.normalize("NFKC", html.unescape(name))
    return _BETWEEN_WORDS.sub(" ", plain.casefold()).strip()


class KnownNames:
    """The names of a taxonomy, however they are written, with suggestions remembered and rationed."""

    def __init__(self, names: LabelNames) -> None:
        self._names = names
        self._suggested: dict[str, str] = {}

    def resolve(self, name: str) -> str | None:
        """The canonical name of what is written in any case, with blanks for underscores."""
        found = self._names.resolve(name) or self._folded.get(folded(name))
        if found is None and name.endswith(".0") and name[:-2].isdecimal():
            # A column of whole numbers with gaps is a column of floats by the time pandas has written it.
            return self.resolve(name[:-2])
        return found

    def of_flag(self, column: str) -> str | None:
        """The label that a 0/1 column is named like: ``late``, or ``topic_late`` as pandas names dummies."""
        found = self.resolve(column)
        if found is None and (prefixed := _PREFIXED.fullmatch(column.strip())):
            found = self.resolve(prefixed[1])
        return found

    def is_exact(self, name: str) -> bool:
        return self._names.resolve(name) is not None

    def is_none(self, name: str) -> bool:
        """Whether `name` says that there is no label."""
        return folded(name) in NONE_WORDS and self.resolve(name) is None

    def is_below(self, name: str, group: str) -> bool:
        return self._names.is_below(name, group)

    def is_part(self, name: str) -> bool:
        """Whether `name` is known, or is a step of a path that is."""
        return folded(name) in self._parts or self.resolve(name) is not None

    def find(self, parts: Sequence[str]) -> str:
        """The label or group at the end of a path from the top down.

        Raises
        ------
        RefusedError
            A part is empty or unknown, or does not stand in the one before.
        """
        parts = [part.strip() for part in parts]
        while parts and self.is_none(parts[-1]):
            parts.pop()
        if not parts or not all(parts):
            raise RefusedError(f"a path with an empty part: {quoted(' / '.join(parts))}")
        joined = self.resolve("/".join(parts))
        return joined if joined is not None else self._chained(parts)

    def _chained(self, parts: Sequence[str]) -> str:
        above: str | None = None
        for part in parts:
            name = self.resolve(part)
            if name is None:
                raise RefusedError(self.unknown(part))
            if above is not None and not self._names.is_below(name, above):
                raise RefusedError(f"{quoted(part)} does not stand in {quoted(above)}")
            above = name
        return str(above)

    def unknown(self, name: str) -> str:
        return f"unknown label {quoted(name)}.{self._suggestion(name)}"

    def _suggestion(self, name: str) -> str:
        if name not in self._suggested:
            if len(self._suggested) >= _SUGGESTIONS_PER_FILE or len(name) > SHOWN_CHARACTERS:
                return ""
            self._suggested[name] = self._names.suggest(name)
        return self._suggested[name]

    @cached_property
    def exact(self) -> dict[str, str]:
        """Each name as the taxonomy writes it -> its canonical name."""
        pairs = ((spelling, self._names.resolve(spelling)) for spelling in self._names.spellings())
        return {spelling: name for spelling, name in pairs if name is not None}

    @cached_property
    def _folded(self) -> dict[str, str]:
        """Folded spelling -> canonical name, where it means one name only."""
        meanings: dict[str, set[str]] = {}
        for spelling, name in self.exact.items():
            meanings.setdefault(folded(spelling), set()).add(name)
        return {spelling: next(iter(names)) for spelling, names in meanings.items() if len(names) == 1}

    @cached_property
    def _parts(self) -> frozenset[str]:
        return frozenset(folded(part) for name in self._names.spellings() for part in name.split("/"))
