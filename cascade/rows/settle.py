"""The one reading of a file under which its labels are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from cascade.errors import DataError
from cascade.rows.candidates import (
    USUAL_LABELS,
    Candidate,
    Looked,
    is_index,
    usual_rank,
)
from cascade.rows.layout import (
    Record,
    flag_label,
    id_column,
    listed_columns,
    require_column,
)
from cascade.rows.names import KnownNames, folded
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import RefusedError, quoted
from cascade.rows.shapes import as_columns, common_end, format_of

USUAL_TEXTS = (
    *(
        "text",
        "txt",
        "texts",
        "message",
        "comment",
        "utterance",
        "body",
        "sentence",
        "content",
        "query",
        "question",
    ),
    *(
        "feedback",
        "review",
        "description",
        "verbatim",
        "document",
        "post",
        "tweet",
        "input",
        "inputs",
    ),
    *("prompt", "answer", "response", "comments", "summary", "abstract", "note", "notes", "data", "title"),
    *("subject", "headline", "kommentar", "nachricht", "texte", "commentaire", "texto", "mensaje", "testo"),
)
DOCUMENTED = "labels"
_HEADS = ("title", "subject", "headline", "betreff", "titel", "titre", "asunto")
_BODIES = (
    "body",
    "description",
    "content",
    "abstract",
    "message",
    "comment",
    "details",
    "selftext",
    "summary",
)
_LEAST_SHARE = 0.5
_NEAREST = 3
_MUCH_LONGER = 2


def settle(
    file: str,
    header: Sequence[str] | None,
    records: Sequence[Record],
    columns: Columns,
    names: KnownNames | None,
    known: Sequence[Reading] = (),
) -> tuple[Reading, Candidate | None]:
    """The reading of a file that begins with `records`, and what it makes of them.

    Parameters
    ----------
    header
        The columns of a table; None where each row has its own.
    names
        None where labels are not wanted: only columns of text and id are settled then, by their names.
    known
        Readings of files before this one: the first under which all labels are known is taken.

    Raises
    ------
    DataError
        No reading fits, or several do that say different things.
    RefusedError
        A column that was told is not there, or none can be told to hold the text.
    """
    rows = [record.fields for record in records]
    name = columns.format or format_of(rows)
    base = _with_ends(replace(Reading(), format=name, id=columns.id), columns, rows, known)
    usable = list(_flattened(records, base))
    flat = [fields for _, fields in usable]
    present = _present(header if name == "plain" else None, flat)
    columns = columns.present(present)
    base = replace(base, id=columns.id)
    base = replace(base, id=id_column(columns.id, present, columns.text_columns))
    if header is not None and columns.id is not None:
        require_column(columns.id, "id", present)
    if names is None:
        kept = next((one.text for one in known if set(one.text) <= set(present)), ())
        text = columns.text_columns or kept or _text_columns(present, flat, base, is_alone=len(present) < 3)
        if header is not None:
            _require_all(text, present)
        return replace(base, text=text, labels=()), None
    numbers = [number for number, _ in usable]
    looked = Looked(file, flat, numbers, present, columns, names, base, header is not None)
    chosen = _known(looked, known) or _Choice(looked).chosen()
    base = (
        chosen.reading if chosen is not None else replace(base, labels=columns.label_columns or (DOCUMENTED,))
    )
    labels = _label_columns(base, present, names)
    text = columns.text_columns or _text_columns(
        [one for one in present if one not in labels], flat, base, is_alone=True
    )
    if header is not None:
        _require_all(text, present)
    return replace(base, text=text), chosen


def _require_all(text: Sequence[str], present: Sequence[str]) -> None:
    for column in text:
        require_column(column, "text", present)


def has_usual_text(columns: Sequence[str]) -> bool:
    """Whether a column has a usual name of texts or labels."""
    return any(folded(one) in USUAL_TEXTS or folded(one) in USUAL_LABELS for one in columns)


def _flattened(records: Sequence[Record], base: Reading) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The number and the columns of each row that says something."""
    for record in records:
        with suppress(RefusedError):
            yield record.number, as_columns(record.fields, base.format, base.prompt_end)


def _with_ends(
    base: Reading, columns: Columns, rows: Sequence[Mapping[str, Any]], known: Sequence[Reading]
) -> Reading:
    """What follows each prompt: as told, as in earlier files if all end so, or what all end with."""
    if base.format != "prompt":
        return base
    earlier = (one.prompt_end for one in known if one.format == "prompt")
    prompts = [str(fields.get("prompt")) for fields in rows]
    end = columns.prompt_end
    if end is None:
        end = next((one for one in earlier if all(prompt.endswith(one) for prompt in prompts)), None)
    if end is None:
        end = common_end(fields.get("prompt") for fields in rows)
    return replace(base, prompt_end=end)


def _present(header: Sequence[str] | None, rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    if header is not None:
        return tuple(header)
    return tuple(dict.fromkeys(column for fields in rows for column in fields))


def _label_columns(reading: Reading, present: Sequence[str], names: KnownNames) -> frozenset[str]:
    if reading.labels_are == "flags" and not reading.labels:
        flags = (column for column in present if names.of_flag(column) is not None)
        return frozenset(column for column in flags if folded(column) != "text" and column != reading.id)
    return frozenset(reading.labels)


def _known(looked: Looked, known: Sequence[Reading]) -> Candidate | None:
    """What an earlier reading makes of the rows, if it can read them all."""
    told = looked.columns
    for reading in known:
        fits = reading.format == looked.base.format and set(reading.labels) <= set(looked.present)
        agrees = told.label_columns in ((), reading.labels) and told.delimiter in (None, reading.delimiter)
        if fits and agrees and (reading.labels or reading.labels_are == "flags"):
            for candidate in looked.tried(reading):
                if candidate.labelled and not candidate.faults:
                    return candidate
    return None


class _Choice:
    """Among the readings of some rows, the one that fits."""

    def __init__(self, looked: Looked) -> None:
        self._looked = looked
        _require_told(looked)
        self._all = list(looked.candidates())

    def chosen(self) -> Candidate | None:
        """None where nothing says that there are labels."""
        fitting = [one for one in self._all if one.share >= _LEAST_SHARE]
        if not fitting:
            return self._nothing_fits()
        # Columns that belong together come first: one of them alone fits more rows, and says less of each.
        whole = self._undominated(fitting)
        least = min(len(one.faults) for one in whole)
        found = self._one_of([one for one in whole if len(one.faults) == least])
        if found.faults:
            self._refuse_two_delimiters(found)
        return found

    def _undominated(self, best: list[Candidate]) -> list[Candidate]:
        """Without readings that leave columns aside in which others find labels."""
        wide = [one for one in best if len(one.used) > 1 and self._belongs_together(one)]
        if any(one.reading.labels == (DOCUMENTED,) and not one.faults for one in best):
            # Whoever writes the documented column may tell the same again beside it.
            wide = [one for one in wide if DOCUMENTED in one.used and self._looked.is_series(one.used)]
        if any(one.reading.labels_are == "levels" for one in wide):
            wide = [one for one in wide if one.reading.labels_are == "levels"]
        if not wide:
            return [one for one in best if len(one.used) < 2 or self._is_told]
        return [
            one
            for one in best
            if one in wide or (not any(one.used and one.used <= other.used for other in wide))
        ]

    @property
    def _is_told(self) -> bool:
        return len(self._looked.columns.label_columns) > 1

    def _belongs_together(self, candidate: Candidate) -> bool:
        """Whether several columns hold the labels of a row together, rather than each for itself."""
        if self._is_told:
            return True
        if candidate.reading.labels_are == "levels":
            return self._has_steps(candidate)
        columns = candidate.reading.labels
        return (
            self._looked.is_series(candidate.used) or self._are_disjoint(columns) or self._are_slots(columns)
        )

    def _has_steps(self, candidate: Candidate) -> bool:
        """Whether most rows with several names have each below the one before."""
        columns = candidate.reading.labels
        deep = [
            place
            for place, fields in enumerate(self._looked.rows)
            if sum(self._looked.name_in(fields, column) != "" for column in columns) > 1
        ]
        return 2 * sum(place not in candidate.faults for place in deep) > len(deep)

    def _are_slots(self, columns: Sequence[str]) -> bool:
        """Whether columns are filled from the left, none with a name that another has in the same row."""
        rows = [[self._looked.name_in(fields, column) for column in columns] for fields in self._looked.rows]
        filled = [[name for name in row if name] for row in rows]
        are_left = all(row[: len(names)] == names for row, names in zip(rows, filled, strict=True))
        are_distinct = all(len(set(names)) == len(names) for names in filled)
        return are_left and are_distinct and any(len(names) < len(columns) for names in filled)

    def _are_disjoint(self, columns: Sequence[str]) -> bool:
        seen: set[str] = set()
        for column in columns:
            alone = [one for one in self._all if one.reading.labels == (column,)]
            best = min(alone, key=lambda one: (len(one.faults), one.rank), default=None)
            found = {label for labels in (best.labels if best else ()) for label in labels or ()}
            if best is None or seen & found:
                return False
            seen |= found
        return True

    def _one_of(self, best: Sequence[Candidate]) -> Candidate:
        """The most usual of those that say the same; if they differ, one that has a more usual name."""
        ordered = sorted(best, key=lambda one: one.rank)
        first = ordered[0]
        usual = len(USUAL_LABELS)
        rivals = [
            one
            for one in ordered[1:]
            if not one.agrees(first)
            and (one.rank[0] == first.rank[0] or first.rank[0] == usual or one.reading.labels_are == "flags")
        ]
        if rivals:
            self._refuse_ambiguous(first, rivals[0])
        return first

    def _refuse_ambiguous(self, first: Candidate, other: Candidate) -> NoReturn:
        pairs = zip(self._looked.numbers, zip(first.labels, other.labels, strict=True), strict=True)
        number, (one, two) = next((n, pair) for n, pair in pairs if None not in pair and pair[0] != pair[1])
        raise DataError(
            f"{self._looked.file}: two readings fit equally, and say different things of row {number}:\n"
            f"  {first.reading.describe_labels()}: {_listed(one)}\n"
            f"  {other.reading.describe_labels()}: {_listed(two)}\n"
            f"Say in the taxonomy which it is, such as\n{_settling(first)}\nor\n{_settling(other)}"
        )

    def _refuse_two_delimiters(self, found: Candidate) -> None:
        for other in self._all:
            same = (
                other.reading.labels == found.reading.labels
                and other.reading.delimiter != found.reading.delimiter
            )
            places = [place for place in found.faults if same and len(other.labels[place] or ()) > 1]
            if places and (place := places[0]) not in other.faults and found.reading.labels_are == "names":
                raise DataError(
                    f"{self._looked.file}: labels in {quoted(found.reading.labels[0])} are separated by "
                    f"{found.reading.delimiter!r} in some rows and by {other.reading.delimiter!r} in others "
                    f"({self._row(place)}: {found.faults[place]}). Write one of them throughout"
                )

    def _row(self, place: int) -> str:
        return f"row {self._looked.numbers[place]}"

    def _nothing_fits(self) -> Candidate | None:
        """The documented form if it is there, so that its rows are refused one by one; else an error."""
        told = self._looked.columns
        near = sorted(self._all, key=lambda one: (-one.share, one.rank))
        if len(told.label_columns) > 1 and near and near[0].labelled:
            if any(map(self._looked.is_flag, told.label_columns)):
                near.sort(key=lambda one: one.reading.labels_are != "flags")
            raise DataError(self._nearest(near))
        silent = [one for one in near if not one.labelled and one.rank[0] < len(USUAL_LABELS)]
        if told.labels is not None or (told.labels_are is None and DOCUMENTED in self._looked.present):
            column = told.label_columns or (DOCUMENTED,)
            plain = [one for one in self._all if one.reading.labels == column]
            return min(plain, key=lambda one: (-one.share, one.rank), default=None)
        if silent:
            return min(silent, key=lambda one: one.rank)
        usual = [one for one in near if one.share > 0 or (one.labelled and one.rank[0] < len(USUAL_LABELS))]
        flags = [one for one in usual if one.reading.labels_are == "flags"]
        if flags and len(flags) == len(usual):
            return flags[0]
        if usual:
            raise DataError(self._nearest(usual))
        if self._looked.is_table and not self._has_flags():
            raise RefusedError(
                "no column of labels: expected one named 'labels', or 0/1 columns named like labels; "
                f"there {listed_columns(self._looked.present)}."
            )
        return next((one for one in near if one.reading.labels_are == "flags"), None)

    def _has_flags(self) -> bool:
        return any(one.reading.labels_are == "flags" for one in self._all)

    def _nearest(self, near: Sequence[Candidate]) -> str:
        lines = [f"{self._looked.file}: no reading of its labels fits the taxonomy. The nearest:"]
        seen: set[str] = set()
        for one in near:
            words = one.reading.describe_labels()
            if len(seen) < _NEAREST and words not in seen:
                place, fault = next(iter(one.faults.items()))
                fits = one.labelled - len(one.faults)
                fit = f"fits {fits:,} of {one.labelled:,} rows"
                lines.append(f"  {words}: {fit}; {self._row(place)}: {fault}")
                seen.add(words)
        lines.append(f"Say in the taxonomy how they are written, such as\n{_settling(near[0])}")
        return "\n".join(lines)


def _require_told(looked: Looked) -> None:
    """RefusedError where a column of labels that was told is not there, or is no label's."""
    told = looked.columns.label_columns
    for column in told if looked.is_table else ():
        require_column(column, "labels", looked.present)
    for column in told if looked.columns.labels_are == "flags" else ():
        flag_label(column, looked.names)


def _settling(candidate: Candidate) -> str:
    keys = {key: value for key, value in candidate.reading.keys().items() if key not in ("text", "id")}
    reading = candidate.reading
    lines = [line for line in reading.yaml().splitlines() if line.split(":")[0].strip() in ("data", *keys)]
    return "\n".join("  " + line for line in lines)


def _listed(labels: frozenset[str] | None) -> str:
    return ", ".join(sorted(labels or ())) or "no labels"


def _text_columns(
    present: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    base: Reading,
    *,
    is_alone: bool,
) -> tuple[str, ...]:
    """The columns of the text: with a usual name, the only one left, or with much longer texts."""
    free = [one for one in present if (one != base.id or one == "text") and not is_index(one)]
    free = [one for one in free if usual_rank(one, USUAL_LABELS) == len(USUAL_LABELS)]
    if head_and_body := _head_and_body(free):
        return head_and_body
    named = [column for column in free if folded(column) in USUAL_TEXTS]
    if named:
        wordy = [column for column in named if _is_wordy(column, rows) or folded(column) == "text"]
        return (min(wordy or named, key=lambda column: usual_rank(column, USUAL_TEXTS)),)
    if len(free) == 1 and is_alone:
        return (free[0],)
    longest = _longest(free, rows)
    return (longest or "text",)


def _head_and_body(free: Sequence[str]) -> tuple[str, ...]:
    by_name = {folded(column): column for column in reversed(free)}
    if "text" in by_name:
        return ()
    head = next((by_name[name] for name in _HEADS if name in by_name), None)
    body = next((by_name[name] for name in _BODIES if name in by_name), None)
    return (head, body) if head and body else ()


def _longest(free: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The one column whose texts are much longer than those of any other."""
    lengths = sorted(_mean_lengths(free, rows), reverse=True)
    if not lengths or lengths[0][0] == 0:
        return None
    second = lengths[1][0] if len(lengths) > 1 else 0.0
    return lengths[0][1] if lengths[0][0] >= _MUCH_LONGER * second and lengths[0][2] else None


def _mean_lengths(
    free: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[float, str, bool]]:
    for column in free:
        cells = [value for fields in rows if isinstance(value := fields.get(column), str)]
        yield sum(map(len, cells)) / max(len(rows), 1), column, _is_wordy(column, rows)


def _is_wordy(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most cells of a column have several words."""
    cells = [value for fields in rows if isinstance(value := fields.get(column), str)]
    return 2 * sum(" " in cell.strip() for cell in cells) > len(cells)
