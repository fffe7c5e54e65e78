"""Rules for what stands twice: texts, and labels that say the same."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from cascade.checks.findings import SHOWN_NAMES, SHOWN_ROWS, Finding, counted, first_few
from cascade.checks.subject import Subject, grouped, labels_of, quoted
from cascade.rows.row import Row

_SAME_ROWS_LEAST = 5


def duplicate_texts(subject: Subject) -> Iterator[Finding]:
    """Training rows that say again what another one says, text and labels."""
    alike = [
        same
        for rows in subject.by_text.values()
        if len(rows) > 1
        for same in grouped(rows, _label_set).values()
        if len(same) > 1
    ]
    surplus = sum(len(rows) - 1 for rows in alike)
    if surplus:
        alike.sort(key=len, reverse=True)
        shown = [
            f"{quoted(rows[0].text)} in {counted(len(rows), 'row')}, first in {subject.at(rows[0])}"
            for rows in alike[:SHOWN_ROWS]
        ]
        yield Finding(
            "duplicate-texts",
            "advice",
            f"{counted(surplus, 'training row repeats', 'training rows repeat')} text and labels of another",
            surplus,
            tuple(first_few(shown, len(alike), SHOWN_ROWS)),
            "Harmless if people really write the same thing often; delete the copies if an export made them.",
        )


def conflicting_labels(subject: Subject) -> Iterator[Finding]:
    """Texts that stand in several training rows with different labels."""
    torn = [
        kinds
        for rows in subject.by_text.values()
        if len(rows) > 1 and len(kinds := grouped(rows, _label_set)) > 1
    ]
    if torn:
        shown = [_conflict(subject, [rows[0] for rows in kinds.values()]) for kinds in torn[:SHOWN_ROWS]]
        yield Finding(
            "conflicting-labels",
            "warning",
            f"{counted(len(torn), 'text stands', 'texts stand')} in training rows with different labels",
            len(torn),
            tuple(first_few(shown, len(torn), SHOWN_ROWS)),
            "Settle which labels are right: rows that contradict each other teach neither.",
        )


def _label_set(row: Row) -> frozenset[str]:
    return frozenset(row.labels)


def _conflict(subject: Subject, rows: Sequence[Row]) -> str:
    agreed = frozenset.intersection(*map(_label_set, rows))
    sides = [
        f"{subject.at(row)} with {labels_of(own)}" if own else f"{subject.at(row)} without"
        for row in rows[:SHOWN_ROWS]
        for own in [[name for name in row.labels if name not in agreed]]
    ]
    return f"{quoted(rows[0].text)}: {'; '.join(first_few(sides, len(rows), SHOWN_ROWS))}"


def train_test_overlap(subject: Subject) -> Iterator[Finding]:
    """Test rows whose text, but for case, punctuation and white space, is a training row's, too."""
    essences = {essence for row in subject.test if (essence := essence_of(row.text))}
    first: dict[str, Row] = {}
    for row in subject.train if essences else ():
        if (essence := essence_of(row.text)) in essences:
            first.setdefault(essence, row)
    leaked = [row for row in subject.test if essence_of(row.text) in first]
    if leaked:
        shown = [
            f"{subject.at(row)} and {subject.at(first[essence_of(row.text)])}: {quoted(row.text)}"
            for row in leaked[:SHOWN_ROWS]
        ]
        yield Finding(
            "train-test-overlap",
            "warning",
            f"{counted(len(leaked), 'test row has', 'test rows have')} the text of a training row"
            f" ({len(leaked) / len(subject.test):.1%} of the test rows)",
            len(leaked),
            tuple(first_few(shown, len(leaked), SHOWN_ROWS)),
            "Take them out of the training rows: what was seen in training makes test figures too good.",
        )


class _WithoutMarks(dict[int, int | None]):
    """A table for `str.translate`, filled as characters are met, that drops punctuation and white space."""

    def __missing__(self, code: int) -> int | None:
        dropped = unicodedata.category(chr(code))[0] in "PZ" or chr(code).isspace()
        self[code] = None if dropped else code
        return self[code]


_REMOVED = _WithoutMarks()


def essence_of(text: str) -> str:
    """A text without case, punctuation and white space."""
    return text.casefold().translate(_REMOVED)


def same_rows(subject: Subject) -> Iterator[Finding]:
    """Labels that always go together, in the very same training rows."""
    carried: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(subject.train):
        for label in row.labels:
            carried[label].append(number)
    sets: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for label in subject.taxonomy.labels:
        if len(carried.get(label, ())) >= _SAME_ROWS_LEAST:
            sets[tuple(carried[label])].append(label)
    alike = [(labels, len(rows)) for rows, labels in sets.items() if len(labels) > 1]
    if alike:
        shown = [
            f"{labels_of(labels)}: the same {counted(n_rows, 'row')}"
            for labels, n_rows in alike[:SHOWN_NAMES]
        ]
        yield Finding(
            "same-rows",
            "warning",
            f"{counted(len(alike), 'set', 'sets')} of labels with exactly the same training rows",
            len(alike),
            tuple(first_few(shown, len(alike))),
            "Make one label of them (the others as `aliases`), or add rows that have one without the other.",
        )


# Names

_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Words and numbers of a name; signs such as + and # are part of a word: C, C++ and C# are three names.
_WORD = re.compile(r"(?:(?<![^\W_])-)?\d+|&|[^\s\d_\-./:,;()'\"&]+")
_TYPO_WORD_LEAST = 6
_TYPO_NAME_LEAST = 8
# More names than these one letter apart are a series, such as codes, and no slips.
_TYPO_NAMES_MOST = 3


def near_identical_names(subject: Subject) -> Iterator[Finding]:
    """Labels whose names differ only in case, separators, a plural or one letter of a long word."""
    alike = _alike(list(subject.taxonomy.labels))
    if alike:
        shown = [
            ", ".join(first_few([subject.named(name) for name in names[:4]], len(names), 4))
            for names in alike[:SHOWN_NAMES]
        ]
        yield Finding(
            "near-identical-names",
            "warning",
            f"{counted(len(alike), 'set', 'sets')} of labels with nearly the same name",
            len(alike),
            tuple(first_few(shown, len(alike))),
            "If they mean the same, keep one and put the others under its `aliases`.",
        )


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Sets of names that look alike, found through shared keys and not by comparing all pairs."""
    spelt: dict[str, list[str]] = defaultdict(list)
    variants: dict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        words = _words(name)
        key = "".join(words) or name
        spelt[key].append(name)
        for variant in _variants(words):
            variants[variant][key] = None
    pairs = [tuple(keys) for keys in variants.values() if 1 < len(keys) <= _TYPO_NAMES_MOST]
    return [
        group
        for keys in _joined(spelt, pairs)
        if len(group := [name for key in keys for name in spelt[key]]) > 1
    ]


def _words(name: str) -> list[str]:
    spaced = _CAMEL_CASE.sub(" ", unicodedata.normalize("NFKC", name))
    return [_base(word) for word in _WORD.findall(spaced.casefold())]


def _base(word: str) -> str:
    """A word without its English plural; numbers with a mark, so that 1, 12 and 11, 2 stay apart."""
    if word == "&":
        return "and"
    if word.lstrip("-").isdecimal():
        return f"#{int(word)}"
    if len(word) < 5 or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes")) else word.removesuffix("s")


def _variants(words: Sequence[str]) -> Iterator[str]:
    """The name, and the name with one letter of a long word left out.

    Two names that share one are a letter apart: another, one more, or one moved. The first letter stays, as
    do the ends of employer and employee: those are other words.
    """
    if sum(map(len, words)) < _TYPO_NAME_LEAST:
        return
    yield "".join(words)
    for place, word in enumerate(words):
        if len(word) >= _TYPO_WORD_LEAST and word[0] != "#":
            before, after = "".join(words[:place]), "".join(words[place + 1 :])
            last = len(word) - word.endswith(("er", "or"))
            for letter in range(1, last):
                yield before + word[:letter] + word[letter + 1 :] + after


def _joined(keys: Iterable[str], pairs: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """The keys in sets, those of a pair in the same one."""
    home = {key: [key] for key in keys}
    for first, *others in pairs:
        for other in others:
            into, gone = home[first], home[other]
            if into is not gone:
                into += gone
                home.update(dict.fromkeys(gone, into))
    return list({id(members): members for members in home.values()}.values())
