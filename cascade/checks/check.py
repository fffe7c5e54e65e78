"""What people should know about a taxonomy and its rows before they train on them.

Each rule is a function from a prepared `Subject` to findings, and `RULES` lists them all. No rule changes
anything. Texts are quoted in part, with e-mail addresses and long numbers blanked out, so that a report can
be passed on.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from functools import cached_property
from itertools import islice
from pathlib import PurePath
from typing import Any, Literal

from cascade.backends import KINDS, complaints
from cascade.errors import Place
from cascade.hosted.codecs import MOST_INDICATORS
from cascade.hosted.prices import Prices
from cascade.hosted.settings import Settings
from cascade.hosted.shutdowns import Shutdown, ShutdownDates, shutdowns_of
from cascade.rows.records import BadRow, Row
from cascade.taxonomy.definition import Group, Taxonomy
from cascade.taxonomy.graph import ROOT

Severity = Literal["error", "warning", "advice"]

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")
_SHOWN_CHARACTERS = 60
_SHOWN_ROWS = 3
_SHOWN_NAMES = 10
_SHOWN_REASONS = 8
_WIDTH = 100

# Below ten rows a label has about three in each of three folds, and its threshold is a guess.
_FEW_ROWS = 10
_ENORMOUS_CHARACTERS = 20_000
_SAME_ROWS_LEAST = 5
_UNBALANCED_SHARE = 0.8
_UNBALANCED_LEAST_ROWS = 20
_LARGE_GROUP = 60
_SOON_DAYS = 90


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found: how much of it, a few examples, and what to do."""

    rule: str
    severity: Severity
    message: str
    count: int
    examples: tuple[str, ...]
    advice: str

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self) | {"examples": list(self.examples)}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, errors first; `rows` counts training rows, `groups` leaves the root out."""

    findings: tuple[Finding, ...]
    rows: int
    labels: int
    groups: int

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and advice do no harm."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "labels": self.labels,
            "groups": self.groups,
            "findings": [finding.to_json() for finding in self.findings],
        }


def is_hosted(group: Group) -> bool:
    """Whether the group's model lives at a service."""
    kind, options = group.backend.kind, group.backend.options
    return not any(complaints(kind, options)) and KINDS[kind].hosted


def check(
    taxonomy: Taxonomy,
    train: Sequence[Row],
    test: Sequence[Row] = (),
    bad_rows: Sequence[BadRow] = (),
    told: ShutdownDates | None = None,
    today: date | None = None,
) -> Report:
    """What all `RULES` find, errors first, else in the order of the rules.

    Parameters
    ----------
    told
        When hosted models end, as their services say: see `announced_shutdowns`.
    today
        The day from which on is looked ahead.
    """
    subject = Subject(taxonomy, tuple(train), tuple(test), tuple(bad_rows), told or {}, today or date.today())
    findings = [finding for rule in RULES for finding in rule(subject)]
    findings.sort(key=lambda finding: _SEVERITIES.index(finding.severity))
    return Report(
        tuple(findings), rows=len(train), labels=len(taxonomy.labels), groups=len(taxonomy.groups) - 1
    )


def render(report: Report) -> Iterator[str]:
    """Lines for a terminal, a hundred columns wide where names and places allow, the counts last."""
    for finding in report.findings:
        yield from _wrapped(f"{finding.severity} {finding.rule}: {finding.message}", "", "  ")
        for example in finding.examples:
            yield from _wrapped(example, "    ", "      ")
        yield from _wrapped(finding.advice, "  -> ", "     ")
        yield ""
    yield ", ".join(
        (
            _counted(len(report.of("error")), "error"),
            _counted(len(report.of("warning")), "warning"),
            _counted(len(report.of("advice")), "piece", "pieces") + " of advice",
        )
    ) + (
        f" on {_counted(report.rows, 'training row')}, {_counted(report.labels, 'label')}"
        f" and {_counted(report.groups, 'group')}"
    )


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


# The subject


@dataclass(frozen=True)
class Subject:
    """A taxonomy with its rows, and the indexes that rules share; each index is made once, when asked for."""

    taxonomy: Taxonomy
    train: tuple[Row, ...]
    test: tuple[Row, ...]
    bad_rows: tuple[BadRow, ...]
    told: ShutdownDates = field(default_factory=dict)
    today: date = field(default_factory=date.today)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Training rows, then test rows."""
        return self.train + self.test

    @cached_property
    def by_labels(self) -> Mapping[tuple[str, ...], tuple[Row, ...]]:
        """Training rows by the names that they carry, in whatever order these stand."""
        return _grouped(self.train, lambda row: tuple(sorted(row.labels)))

    @cached_property
    def by_text(self) -> Mapping[str, tuple[Row, ...]]:
        """Training rows by their texts, save blank ones; most texts have one row."""
        return _grouped((row for row in self.train if not _is_blank(row.text)), lambda row: row.text)

    @cached_property
    def rows_with(self) -> Mapping[str, int]:
        """How many training rows carry a label or group, by itself or through something in it."""
        counts: Counter[str] = Counter()
        for names, rows in self.by_labels.items():
            for name in self.taxonomy.graph.closure(names):
                counts[name] += len(rows)
        return counts

    @cached_property
    def unknown(self) -> Mapping[str, tuple[BadRow, ...]]:
        """Bad rows by the unknown name, in quotes, that had them refused; the most frequent name first."""
        names: dict[str, list[BadRow]] = defaultdict(list)
        for bad in self.bad_rows:
            if found := _UNKNOWN_LABEL.fullmatch(bad.reason):
                names[found["quoted"]].append(bad)
        ordered = sorted(names, key=lambda name: -len(names[name]))
        return {name: tuple(names[name]) for name in ordered}

    @cached_property
    def hosted(self) -> Mapping[str, Settings]:
        """The settings of each group whose model lives at a service."""
        groups = self.taxonomy.groups.values()
        return {group.name: Settings.of(group.backend.options) for group in groups if is_hosted(group)}

    @cached_property
    def _files(self) -> Mapping[str, str]:
        everything: tuple[Row | BadRow, ...] = (*self.rows, *self.bad_rows)
        paths = dict.fromkeys(row.file for row in everything)
        shared = Counter(PurePath(path).name for path in paths)
        return {path: name if shared[name := PurePath(path).name] == 1 else path for path in paths}

    def at(self, row: Row | BadRow) -> str:
        """``FILE row 7``, the file without its folders where that is enough."""
        return _one_line(f"{self._files[row.file]} row {row.number}")

    def at_all(self, rows: Sequence[Row | BadRow]) -> list[str]:
        """The first few rows, one example each, and how many more there are."""
        return _first([self.at(row) for row in rows[:_SHOWN_ROWS]], len(rows), _SHOWN_ROWS)

    def quoted_at(self, rows: Sequence[Row]) -> list[str]:
        """The first few rows, each with the start of its text."""
        shown = [f"{self.at(row)}: {_quoted(row.text)}" for row in rows[:_SHOWN_ROWS]]
        return _first(shown, len(rows), _SHOWN_ROWS)

    def named(self, name: str) -> str:
        """``'refund' (taxonomy.yaml:12)`` for a label or a group."""
        if name == ROOT:
            return "the top level"
        taxonomy = self.taxonomy
        node = taxonomy.groups[name] if name in taxonomy.groups else taxonomy.labels[name]
        return f"{_quoted(name)} ({_line(node.places[0])})" if node.places else _quoted(name)


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, tuple[Row, ...]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return {one: tuple(members) for one, members in found.items()}


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


# Words for people


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _first(shown: Sequence[str], total: int, limit: int = _SHOWN_NAMES) -> list[str]:
    return [*shown[:limit], *([f"and {total - limit:,} more"] if total > limit else [])]


def _quoted(text: str) -> str:
    """The start of a text on one line, in quotes, with personal data blanked out."""
    # Blanked before it is cut, so that no half of an address is left; what comes later is cut anyway.
    start = _one_line(_blanked(text[: 10 * _SHOWN_CHARACTERS]))
    return f"'{start}'" if len(start) <= _SHOWN_CHARACTERS else f"'{start[:_SHOWN_CHARACTERS]}…'"


def _one_line(text: str) -> str:
    """Without line breaks and whatever else could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _line(place: Place) -> str:
    file = PurePath(place.file).name or place.file
    return _one_line(f"{file}:{place.line}" if place.line else file)


def _labels_of(names: Sequence[str]) -> str:
    if not names:
        return "no label"
    return ", ".join(_first([_quoted(name) for name in names[:_SHOWN_ROWS]], len(names), _SHOWN_ROWS))


# Rows that could not be read

# Names stand in a reason as Python writes strings, with either quote.
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_UNKNOWN_LABEL = re.compile(rf"unknown label (?P<quoted>{_QUOTED})\.(?P<hint>.*)", re.DOTALL)
_VARIABLE_PARTS = re.compile(
    rf"lines? \d+(?: to \d+)?: |there (?:is|are) .*|{_QUOTED}|\b0x[0-9a-f]+|\b\d+(?:\.\d+)?\b", re.DOTALL
)
_BLANK_FIRST = re.compile(r"""['"](?: |\\[tnr]|\\xa0|\\u[23]0)""")


def bad_row(subject: Subject) -> Iterator[Finding]:
    """Rows that could not be read, one finding for each kind of reason."""
    kinds: dict[str, list[BadRow]] = defaultdict(list)
    for bad in subject.bad_rows:
        if not _UNKNOWN_LABEL.fullmatch(bad.reason):
            kinds[_VARIABLE_PARTS.sub("", bad.reason)].append(bad)
    for rows in _merged(sorted(kinds.values(), key=len, reverse=True)):
        such_as = ", such as" if len({bad.reason for bad in rows}) > 1 else ""
        yield Finding(
            "bad-row",
            "error",
            f"{_counted(len(rows), 'row')} cannot be used{such_as}: {_reason(rows[0])}",
            len(rows),
            tuple(_bad_examples(subject, rows)),
            "Mend or delete them; `cascade fit --skip-bad-rows` trains without them.",
        )


def _bad_examples(subject: Subject, rows: Sequence[BadRow]) -> list[str]:
    """Places alone where the message gives the one reason, else each with its own."""
    if len({bad.reason for bad in rows}) == 1:
        return subject.at_all(rows)
    shown = [f"{subject.at(bad)}: {_reason(bad)}" for bad in rows[:_SHOWN_ROWS]]
    return _first(shown, len(rows), _SHOWN_ROWS)


def _reason(bad: BadRow) -> str:
    return _one_line(_blanked(bad.reason))


def _merged(kinds: list[list[BadRow]]) -> list[list[BadRow]]:
    rest = [bad for rows in kinds[_SHOWN_REASONS:] for bad in rows]
    return [*kinds[:_SHOWN_REASONS], *([rest] if rest else [])]


def unknown_label(subject: Subject) -> Iterator[Finding]:
    """Names in the rows that the taxonomy does not have."""
    names = subject.unknown
    if not names:
        return
    count = sum(len(rows) for rows in names.values())
    shown = [_unknown_example(subject, rows) for rows in islice(names.values(), _SHOWN_NAMES)]
    yield Finding(
        "unknown-label",
        "error",
        f"{_counted(count, 'row')} with {_counted(len(names), 'name')} that the taxonomy does not have",
        count,
        tuple(_first(shown, len(names))),
        "Correct the rows, or add the name to the taxonomy: as a label, or under `aliases` of one.",
    )


def _unknown_example(subject: Subject, rows: Sequence[BadRow]) -> str:
    found = _UNKNOWN_LABEL.fullmatch(rows[0].reason)
    quoted, hint = found.group("quoted", "hint") if found else ("", "")
    where = f"in {_counted(len(rows), 'row')}, first in {subject.at(rows[0])}"
    return _one_line(f"{_blanked(quoted)} {where}.{_blanked(hint)}")


# How many rows there are


def no_data(subject: Subject) -> Iterator[Finding]:
    """No training row at all."""
    if not subject.train:
        yield Finding(
            "no-data",
            "error",
            "there are no training rows" + (" that can be used" if subject.bad_rows else ""),
            0,
            (),
            "Name files with labelled rows under `data: train:` in the taxonomy.",
        )


def no_test_data(subject: Subject) -> Iterator[Finding]:
    """No test row, so quality can only be estimated on training rows."""
    if subject.train and not subject.test:
        yield Finding(
            "no-test-data",
            "advice",
            "there are no test rows",
            0,
            (),
            "Keep a tenth or a fifth of the rows out of training and name them under `data: test:`.",
        )


def no_rows(subject: Subject) -> Iterator[Finding]:
    """Labels that no training row carries."""
    if not subject.train:
        return
    without = [label for label in subject.taxonomy.labels if not subject.rows_with.get(label)]
    if without:
        yield Finding(
            "no-rows",
            "error",
            f"{_counted(len(without), 'label has', 'labels have')} no training row",
            len(without),
            tuple(_first([subject.named(label) for label in without[:_SHOWN_NAMES]], len(without))),
            "Add rows for them, or take them out of the taxonomy: what has no example cannot be learnt.",
        )


def few_rows(subject: Subject) -> Iterator[Finding]:
    """Labels with fewer than ten training rows, the poorest first."""
    counts = {label: subject.rows_with.get(label, 0) for label in subject.taxonomy.labels}
    poor = sorted((label for label in counts if 0 < counts[label] < _FEW_ROWS), key=counts.__getitem__)
    if poor:
        shown = [f"{subject.named(label)}: {_counted(counts[label], 'row')}" for label in poor[:_SHOWN_NAMES]]
        yield Finding(
            "few-rows",
            "warning",
            f"{_counted(len(poor), 'label has', 'labels have')} fewer than {_FEW_ROWS} training rows",
            len(poor),
            tuple(_first(shown, len(poor))),
            "Add rows for them, or join them with a neighbour; until then expect misses.",
        )


def no_none_rows(subject: Subject) -> Iterator[Finding]:
    """No training row without labels, so that nothing teaches when to answer none."""
    if subject.train and () not in subject.by_labels:
        yield Finding(
            "no-none-rows",
            "advice",
            "every training row has a label: when to answer none of them is never taught",
            0,
            (),
            "If texts will come that fit no label, add such texts with an empty list of labels.",
        )


def only_inner_names(subject: Subject) -> Iterator[Finding]:
    """Rows of which only the group is known."""
    stops: Counter[str] = Counter()
    stopped = 0
    for names, rows in subject.by_labels.items():
        groups = _stopping_groups(subject.taxonomy, names)
        stops.update(dict.fromkeys(groups, len(rows)))
        stopped += len(rows) if groups else 0
    if stopped:
        shown = [
            f"{subject.named(name)}: {_counted(count, 'row')}"
            for name, count in stops.most_common(_SHOWN_NAMES)
        ]
        yield Finding(
            "only-inner-names",
            "advice",
            f"{_counted(stopped, 'training row names', 'training rows name')} a group and nothing in it",
            stopped,
            tuple(_first(shown, len(stops))),
            "They teach the group and nothing below it; name the labels where they are known.",
        )


def _stopping_groups(taxonomy: Taxonomy, names: Sequence[str]) -> list[str]:
    groups = [name for name in names if name in taxonomy.groups]
    if not groups:
        return []
    passed = {above for name in names for above in taxonomy.graph.ancestors(name)}
    return [name for name in groups if name not in passed]


# Rows that repeat or contradict each other


def duplicate_texts(subject: Subject) -> Iterator[Finding]:
    """Training rows that say again what another one says, text and labels."""
    alike = [
        same
        for rows in subject.by_text.values()
        if len(rows) > 1
        for same in _grouped(rows, _label_set).values()
        if len(same) > 1
    ]
    surplus = sum(len(rows) - 1 for rows in alike)
    if surplus:
        alike.sort(key=len, reverse=True)
        shown = [
            f"{_quoted(rows[0].text)} in {_counted(len(rows), 'row')}, first in {subject.at(rows[0])}"
            for rows in alike[:_SHOWN_ROWS]
        ]
        yield Finding(
            "duplicate-texts",
            "advice",
            f"{_counted(surplus, 'training row repeats', 'training rows repeat')} text and labels of another",
            surplus,
            tuple(_first(shown, len(alike), _SHOWN_ROWS)),
            "Harmless if people really write the same thing often; delete the copies if an export made them.",
        )


def conflicting_labels(subject: Subject) -> Iterator[Finding]:
    """Texts that stand in several training rows with different labels."""
    torn = [
        kinds
        for rows in subject.by_text.values()
        if len(rows) > 1 and len(kinds := _grouped(rows, _label_set)) > 1
    ]
    if torn:
        shown = [_conflict(subject, [rows[0] for rows in kinds.values()]) for kinds in torn[:_SHOWN_ROWS]]
        yield Finding(
            "conflicting-labels",
            "warning",
            f"{_counted(len(torn), 'text stands', 'texts stand')} in training rows with different labels",
            len(torn),
            tuple(_first(shown, len(torn), _SHOWN_ROWS)),
            "Settle which labels are right: rows that contradict each other teach neither.",
        )


def _label_set(row: Row) -> frozenset[str]:
    return frozenset(row.labels)


def _conflict(subject: Subject, rows: Sequence[Row]) -> str:
    agreed = frozenset.intersection(*map(_label_set, rows))
    sides = [
        f"{subject.at(row)} with {_labels_of(own)}" if own else f"{subject.at(row)} without"
        for row in rows[:_SHOWN_ROWS]
        for own in [[name for name in row.labels if name not in agreed]]
    ]
    return f"{_quoted(rows[0].text)}: {'; '.join(_first(sides, len(rows), _SHOWN_ROWS))}"


def train_test_overlap(subject: Subject) -> Iterator[Finding]:
    """Test rows whose text, but for case, punctuation and white space, is a training row's, too."""
    essences = {essence for row in subject.test if (essence := _essence(row.text))}
    first: dict[str, Row] = {}
    for row in subject.train if essences else ():
        if (essence := _essence(row.text)) in essences:
            first.setdefault(essence, row)
    leaked = [row for row in subject.test if _essence(row.text) in first]
    if leaked:
        shown = [
            f"{subject.at(row)} and {subject.at(first[_essence(row.text)])}: {_quoted(row.text)}"
            for row in leaked[:_SHOWN_ROWS]
        ]
        yield Finding(
            "train-test-overlap",
            "warning",
            f"{_counted(len(leaked), 'test row has', 'test rows have')} the text of a training row"
            f" ({len(leaked) / len(subject.test):.1%} of the test rows)",
            len(leaked),
            tuple(_first(shown, len(leaked), _SHOWN_ROWS)),
            "Take them out of the training rows: what was seen in training makes test figures too good.",
        )


class _Removed(dict[int, int | None]):
    """A table for `str.translate`, filled as characters are met, that drops punctuation and white space."""

    def __missing__(self, code: int) -> int | None:
        dropped = unicodedata.category(chr(code))[0] in "PZ" or chr(code).isspace()
        self[code] = None if dropped else code
        return self[code]


_REMOVED = _Removed()


def _essence(text: str) -> str:
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
            f"{_labels_of(labels)}: the same {_counted(n_rows, 'row')}"
            for labels, n_rows in alike[:_SHOWN_NAMES]
        ]
        yield Finding(
            "same-rows",
            "warning",
            f"{_counted(len(alike), 'set', 'sets')} of labels with exactly the same training rows",
            len(alike),
            tuple(_first(shown, len(alike))),
            "Make one label of them (the others as `aliases`), or add rows that have one without the other.",
        )


# Texts


def empty_text(subject: Subject) -> Iterator[Finding]:
    """Rows whose text is empty or blank."""
    empty = [row for row in subject.rows if _is_blank(row.text)]
    if empty:
        yield Finding(
            "empty-text",
            "warning",
            f"{_counted(len(empty), 'row has', 'rows have')} an empty text",
            len(empty),
            tuple(subject.at_all(empty)),
            "Delete them: from an empty text nothing can be learnt but how often labels occur.",
        )


def enormous_text(subject: Subject) -> Iterator[Finding]:
    """Rows whose text is over 20,000 characters long, the longest first."""
    enormous = [row for row in subject.rows if len(row.text) > _ENORMOUS_CHARACTERS]
    if enormous:
        enormous.sort(key=lambda row: -len(row.text))
        shown = [
            f"{subject.at(row)}: {len(row.text):,} characters, {_quoted(row.text)}"
            for row in enormous[:_SHOWN_ROWS]
        ]
        yield Finding(
            "enormous-text",
            "warning",
            f"{_counted(len(enormous), 'row has', 'rows have')} a text of more than"
            f" {_ENORMOUS_CHARACTERS:,} characters",
            len(enormous),
            tuple(_first(shown, len(enormous), _SHOWN_ROWS)),
            "See whether rows ran together, say by a quote never closed; cut long documents to what matters.",
        )


_SEPARATOR_ENDS = ("\n\n###", "\n\n---", " ->", "\n->")
_SEPARATOR_INSIDE = "\n\n###\n\n"
_SHARED_LEAST_TEXTS = 10
_SHARED_CHARACTERS = 200


def leftover_separator(subject: Subject) -> Iterator[Finding]:
    """What prompts of an older fine-tuning format leave behind in texts and labels."""
    marked = [row for row in subject.rows if _has_separator(row.text)]
    if marked:
        shown = [f"{subject.at(row)}: ends in {_ending(row.text)}" for row in marked[:_SHOWN_ROWS]]
        yield _leftover(
            f"{_counted(len(marked), 'text holds', 'texts hold')} a separator of an older fine-tuning format",
            len(marked),
            _first(shown, len(marked), _SHOWN_ROWS),
            "Take the separators out: new texts will come without them.",
        )
    yield from _shared_edges(subject)
    blank = {name: rows for name, rows in subject.unknown.items() if _BLANK_FIRST.match(name)}
    if blank:
        count = sum(len(rows) for rows in blank.values())
        yield _leftover(
            f"{_counted(count, 'row has', 'rows have')} a label that begins with a blank",
            count,
            _first([_blanked(name) for name in islice(blank, _SHOWN_NAMES)], len(blank)),
            "Strip the blanks: completions of an older fine-tuning format began with one.",
        )


def _leftover(message: str, count: int, examples: Iterable[str], advice: str) -> Finding:
    return Finding("leftover-separator", "warning", message, count, tuple(examples), advice)


def _has_separator(text: str) -> bool:
    return _SEPARATOR_INSIDE in text or text[-40:].rstrip().endswith(_SEPARATOR_ENDS)


def _ending(text: str) -> str:
    return repr(_blanked(text[-10 * _SHOWN_CHARACTERS :])[-20:])


def _shared_edges(subject: Subject) -> Iterator[Finding]:
    texts = list(subject.by_text)
    start = _shared_start([text[:_SHARED_CHARACTERS] for text in texts])
    end = _shared_start([text[: -_SHARED_CHARACTERS - 1 : -1] for text in texts])[::-1]
    for edge, verb in ((start, "begin"), (end, "end")):
        if _is_template(edge):
            count = sum((str.startswith if verb == "begin" else str.endswith)(text, edge) for text in texts)
            yield _leftover(
                f"{_counted(count, 'text')} of {len(texts):,} {verb} with the same words",
                count,
                [repr(_blanked(edge))],
                "Take them out if a prompt put them there: texts to be classified will come without them.",
            )


def _shared_start(texts: Sequence[str]) -> str:
    """The longest start that more than half of the texts have, up to the end of a word."""
    if len(texts) < _SHARED_LEAST_TEXTS:
        return ""
    # Sorted, texts with one start stand side by side; more than half of them reach over the middle.
    middle = sorted(texts)[len(texts) // 2]
    shared, beyond = 0, len(middle) + 1
    while beyond - shared > 1:
        length = (shared + beyond) // 2
        if sum(text.startswith(middle[:length]) for text in texts) * 2 > len(texts):
            shared = length
        else:
            beyond = length
    return re.sub(r"\w+\Z", "", middle[:shared])


def _is_template(edge: str) -> bool:
    """Whether people would hardly have written this so often by themselves."""
    words = edge.strip()
    has_mark = "\n" in edge or ":" in words
    return len(words) >= (5 if has_mark else 12)


# UTF-8 read as cp1252 or Latin-1: Ã before the sign of a letter's second byte, and the three bytes of quotes
# and dashes. Left out are signs that may well follow a true Ã, such as « and ».
_MOJIBAKE = re.compile("\ufffd|Ã[\x80-\x9f\xa1-\xaa\xac-\xba\xbc-\xbf]|â€|â\x80[\x80-\xbf]")


def mojibake(subject: Subject) -> Iterator[Finding]:
    """Texts that were read in the wrong encoding on their way."""
    broken = [row for row in subject.rows if not row.text.isascii() and _is_mojibake(row.text)]
    if broken:
        yield Finding(
            "mojibake",
            "warning",
            f"{_counted(len(broken), 'text was', 'texts were')} read in the wrong encoding at some point",
            len(broken),
            tuple(subject.quoted_at(broken)),
            "Export the rows again as UTF-8; `ftfy` on PyPI mends most texts where the source is lost.",
        )


def _is_mojibake(text: str) -> bool:
    return _MOJIBAKE.search(text) is not None or any(_is_misread(text, was) for was in ("cp1252", "latin-1"))


def _is_misread(text: str, encoding: str) -> bool:
    try:
        return len(text.encode(encoding).decode()) < len(text)
    except UnicodeError:
        return False


# Personal data

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[^\W\d_]{2,24}\b")
# What cards and telephones have in common; looked for first, since most texts have none.
_LONG_NUMBER = re.compile(r"\d[\d ./()-]{6,}\d")
_CARD = re.compile(
    r"(?<![\w.+-])(?:[2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5})(?![\w-])"
)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}(?:[ ./()-]{0,2}\d){7,12}"
    r"|(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}([-. ]))\d{3}(?(1)\1|[-. ])\d{4}"
    r"|\(?0[1-9]\d{1,3}\)?[ /-]\d{3,4}[ -]?\d{3,5}"
    r")(?![\w-])"
)


def personal_data(subject: Subject) -> Iterator[Finding]:
    """Texts with e-mail addresses, card numbers or telephone numbers; which they are is never shown."""
    numbered = [row for row in subject.rows if _LONG_NUMBER.search(row.text)]
    mailing = [row for row in subject.rows if "@" in row.text]
    for kind, rows, has in (
        ("an e-mail address", mailing, _has_email),
        ("a card number", numbered, _has_card),
        ("a telephone number", numbered, _has_phone),
    ):
        found = [row for row in rows if has(row.text)]
        if found:
            yield Finding(
                "personal-data",
                "warning",
                f"{_counted(len(found), 'text seems', 'texts seem')} to hold {kind}",
                len(found),
                tuple(subject.at_all(found)),
                "Blank them out: no label needs them, and a hosted backend would send them away.",
            )


def _has_email(text: str) -> bool:
    return _EMAIL.search(text) is not None


def _has_card(text: str) -> bool:
    return any(_passes_luhn(re.sub(r"\D", "", found[0])) for found in _CARD.finditer(text))


def _has_phone(text: str) -> bool:
    return _PHONE.search(text) is not None


def _passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def _blanked(text: str) -> str:
    for pattern in (_EMAIL, _CARD, _PHONE):
        text = pattern.sub("***", text)
    return text


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
            ", ".join(_first([subject.named(name) for name in names[:4]], len(names), 4))
            for names in alike[:_SHOWN_NAMES]
        ]
        yield Finding(
            "near-identical-names",
            "warning",
            f"{_counted(len(alike), 'set', 'sets')} of labels with nearly the same name",
            len(alike),
            tuple(_first(shown, len(alike))),
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


# The shape of the taxonomy


def several_parents(subject: Subject) -> Iterator[Finding]:
    """Labels that stand in several groups, which may be an accident."""
    notes = subject.taxonomy.notes
    if notes:
        shown = [f"{_line(note.place)}: {_one_line(note.message)}" for note in notes[:_SHOWN_NAMES]]
        yield Finding(
            "several-parents",
            "advice",
            f"{_counted(len(notes), 'label stands', 'labels stand')} in several groups",
            len(notes),
            tuple(_first(shown, len(notes))),
            "Right if it is one label that belongs to both; else give each its own name.",
        )


def large_group(subject: Subject) -> Iterator[Finding]:
    """Groups with more than sixty children."""
    large = [group for group in _sized(subject) if len(group.children) > _LARGE_GROUP]
    if large:
        shown = [
            f"{subject.named(group.name)}: {_counted(len(group.children), 'child', 'children')}"
            for group in large[:_SHOWN_NAMES]
        ]
        yield Finding(
            "large-group",
            "advice",
            f"{_counted(len(large), 'group has', 'groups have')} more than {_LARGE_GROUP} children",
            len(large),
            tuple(_first(shown, len(large))),
            "Split them into groups of what belongs together: faster, and often better.",
        )


def large_hosted_group(subject: Subject) -> Iterator[Finding]:
    """Hosted groups with so many children that their model has to write names instead of a digit for each."""
    large = [
        group
        for group in _sized(subject)
        if group.name in subject.hosted and group.choose == "many" and len(group.children) > MOST_INDICATORS
    ]
    if large:
        shown = [
            f"{subject.named(group.name)}: {_counted(len(group.children), 'child', 'children')}"
            for group in large[:_SHOWN_NAMES]
        ]
        yield Finding(
            "large-hosted-group",
            "advice",
            f"{_counted(len(large), 'hosted group has', 'hosted groups have')} more than {MOST_INDICATORS} "
            "children: their models answer with names, without a probability for each child",
            len(large),
            tuple(_first(shown, len(large))),
            "Split them into groups of what belongs together.",
        )


def model_ends(subject: Subject) -> Iterator[Finding]:
    """Hosted models that can be tuned or asked for ninety more days at most."""
    prices, last = Prices.load(), subject.today + timedelta(days=_SOON_DAYS)
    users: dict[Shutdown, list[str]] = defaultdict(list)
    for name, settings in subject.hosted.items():
        for ending in shutdowns_of(settings, prices, subject.told):
            if ending.day <= last:
                users[ending].append(name)
    if users:
        yield Finding(
            "model-ends",
            "warning",
            f"{_counted(len({ending.model for ending in users}), 'hosted model')} will end within "
            f"{_SOON_DAYS} days, or {'has' if len(users) == 1 else 'have'} ended",
            len(users),
            tuple(_first([_ending_of(subject, *one) for one in users.items()], len(users))),
            "Use a service that goes on, by `base_url`; or the embedded model, `backend: linear`.",
        )


def _ending_of(subject: Subject, ending: Shutdown, groups: Sequence[str]) -> str:
    what = {"training": "no new fine-tunes", "answers": "no answers"}[ending.what]
    names = ", ".join(_first([subject.named(name) for name in groups[:_SHOWN_NAMES]], len(groups)))
    return f"{ending.model} at {ending.address}: {what} after {ending.day}; for {names}"


def _sized(subject: Subject) -> list[Group]:
    return sorted(subject.taxonomy.groups.values(), key=lambda group: -len(group.children))


def single_child(subject: Subject) -> Iterator[Finding]:
    """Groups with one child, which decide nothing."""
    single = [group for group in subject.taxonomy.groups.values() if len(group.children) == 1]
    if single:
        shown = [
            f"{subject.named(group.name)}: only {_quoted(group.children[0])}"
            for group in single[:_SHOWN_NAMES]
        ]
        yield Finding(
            "single-child",
            "advice",
            f"{_counted(len(single), 'group has', 'groups have')} one child only",
            len(single),
            tuple(_first(shown, len(single))),
            "Put the child in place of the group unless more will join it: such a group decides nothing.",
        )


def unbalanced_group(subject: Subject) -> Iterator[Finding]:
    """Routers, and groups that choose one child, of which one child has nearly all rows."""
    routers: list[str] = []
    facets: list[str] = []
    for group in subject.taxonomy.groups.values():
        if lopsided := _lopsided(subject, group):
            (routers if _is_router(subject, group) else facets).append(lopsided)
    if routers:
        kind = _counted(len(routers), "router has", "routers have")
        advice = "Split the large child, or join the small ones: such a router decides little."
        yield _unbalanced("warning", kind, routers, advice)
    if facets:
        kind = _counted(len(facets), "group that chooses one child has", "groups that choose one child have")
        advice = "Look at macro F1 of the others: always giving the same answer would seem good."
        yield _unbalanced("advice", kind, facets, advice)


def _unbalanced(severity: Severity, groups: str, shown: Sequence[str], advice: str) -> Finding:
    message = f"{groups} over {_UNBALANCED_SHARE:.0%} of the rows in one child"
    examples = tuple(_first(shown, len(shown)))
    return Finding("unbalanced-group", severity, message, len(shown), examples, advice)


def _is_router(subject: Subject, group: Group) -> bool:
    return any(child in subject.taxonomy.groups for child in group.children)


def _lopsided(subject: Subject, group: Group) -> str:
    """What is wrong with a router or facet, an empty string where nothing is."""
    routed = [child for child in group.children if not _is_always_asked(subject, child)]
    if len(routed) < 2 or not (_is_router(subject, group) or group.choose == "one"):
        return ""
    among = frozenset(routed)
    reached = sum(
        len(rows)
        for names, rows in subject.by_labels.items()
        if not among.isdisjoint(subject.taxonomy.graph.closure(names))
    )
    top = max(routed, key=lambda child: subject.rows_with.get(child, 0))
    taken = subject.rows_with.get(top, 0)
    if reached < _UNBALANCED_LEAST_ROWS or taken <= _UNBALANCED_SHARE * reached:
        return ""
    return f"{subject.named(group.name)}: {_quoted(top)} has {taken:,} of {_counted(reached, 'row')}"


def _is_always_asked(subject: Subject, child: str) -> bool:
    group = subject.taxonomy.groups.get(child)
    return group is not None and group.route == "always"


def several_of_one(subject: Subject) -> Iterator[Finding]:
    """Rows that carry several children of a group that chooses one, one finding for each such group."""
    for group in subject.taxonomy.groups.values():
        if group.choose != "one":
            continue
        torn = [
            row
            for names, rows in subject.by_labels.items()
            if _needs_several(subject.taxonomy, group.name, names)
            for row in rows
        ]
        if torn:
            shown = [f"{subject.at(row)}: {_labels_of(row.labels)}" for row in torn[:_SHOWN_ROWS]]
            yield Finding(
                "several-of-one",
                "warning",
                f"{_counted(len(torn), 'training row carries', 'training rows carry')} several children of"
                f" {subject.named(group.name)}, which chooses one",
                len(torn),
                tuple(_first(shown, len(torn), _SHOWN_ROWS)),
                "Correct the rows, or write `choose: many` at the group.",
            )


def _needs_several(taxonomy: Taxonomy, group: str, names: Sequence[str]) -> bool:
    """Whether no single child of the group accounts for all names that stand in it."""
    if len(names) < 2:
        return False
    children = frozenset(taxonomy.groups[group].children)
    reached = [children & taxonomy.graph.closure([name]) for name in names]
    inside = [some for some in reached if some]
    return bool(inside) and not frozenset.intersection(*inside)


Rule = Callable[[Subject], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    bad_row,
    unknown_label,
    no_data,
    no_rows,
    few_rows,
    conflicting_labels,
    several_of_one,
    train_test_overlap,
    near_identical_names,
    same_rows,
    empty_text,
    enormous_text,
    leftover_separator,
    mojibake,
    personal_data,
    model_ends,
    unbalanced_group,
    several_parents,
    large_group,
    large_hosted_group,
    single_child,
    only_inner_names,
    duplicate_texts,
    no_none_rows,
    no_test_data,
)
