"""Rules for what stands in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from cascade.checks.findings import SHOWN_NAMES, SHOWN_ROWS, Finding, counted, first_few, listed
from cascade.checks.redaction import LONG_NUMBER, blanked, has_card, has_email, has_phone
from cascade.checks.subject import SHOWN_CHARACTERS, Subject, is_blank, quoted

_ENORMOUS_CHARACTERS = 20_000
_BLANK_FIRST = re.compile(r"""['"](?: |\\[tnr]|\\xa0|\\u[23]0)""")


def empty_text(subject: Subject) -> Iterator[Finding]:
    """Rows whose text is empty or blank."""
    empty = [row for row in subject.rows if is_blank(row.text)]
    if empty:
        yield Finding(
            "empty-text",
            "warning",
            f"{counted(len(empty), 'row has', 'rows have')} an empty text",
            len(empty),
            tuple(subject.at_all(empty)),
            "Delete them: from an empty text nothing can be learnt but how often labels occur.",
        )


def enormous_text(subject: Subject) -> Iterator[Finding]:
    """Rows whose text is over 20,000 characters long, the longest first."""
    enormous = [row for row in subject.rows if len(row.text) > _ENORMOUS_CHARACTERS]
    enormous.sort(key=lambda row: -len(row.text))
    yield from listed(
        "enormous-text",
        "warning",
        enormous,
        f"{counted(len(enormous), 'row has', 'rows have')} a text of more than"
        f" {_ENORMOUS_CHARACTERS:,} characters",
        lambda row: f"{subject.at(row)}: {len(row.text):,} characters, {quoted(row.text)}",
        "See whether rows ran together, say by a quote never closed; cut long documents to what matters.",
        SHOWN_ROWS,
    )


_SEPARATOR_ENDS = ("\n\n###", "\n\n---", " ->", "\n->")
_SEPARATOR_INSIDE = "\n\n###\n\n"
_SHARED_LEAST_TEXTS = 10
_SHARED_CHARACTERS = 200


def leftover_separator(subject: Subject) -> Iterator[Finding]:
    """What prompts of an older fine-tuning format leave behind in texts and labels."""
    marked = [row for row in subject.rows if _has_separator(row.text)]
    if marked:
        shown = [f"{subject.at(row)}: ends in {_ending(row.text)}" for row in marked[:SHOWN_ROWS]]
        yield _leftover(
            f"{counted(len(marked), 'text holds', 'texts hold')} a separator of an older fine-tuning format",
            len(marked),
            first_few(shown, len(marked), SHOWN_ROWS),
            "Take the separators out: new texts will come without them.",
        )
    yield from _shared_edges(subject)
    blank = {name: rows for name, rows in subject.unknown.items() if _BLANK_FIRST.match(name)}
    if blank:
        count = sum(len(rows) for rows in blank.values())
        yield _leftover(
            f"{counted(count, 'row has', 'rows have')} a label that begins with a blank",
            count,
            first_few([blanked(name) for name in islice(blank, SHOWN_NAMES)], len(blank)),
            "Strip the blanks: completions of an older fine-tuning format began with one.",
        )


def _leftover(message: str, count: int, examples: Iterable[str], advice: str) -> Finding:
    return Finding("leftover-separator", "warning", message, count, tuple(examples), advice)


def _has_separator(text: str) -> bool:
    return _SEPARATOR_INSIDE in text or text[-40:].rstrip().endswith(_SEPARATOR_ENDS)


def _ending(text: str) -> str:
    return repr(blanked(text[-10 * SHOWN_CHARACTERS :])[-20:])


def _shared_edges(subject: Subject) -> Iterator[Finding]:
    texts = list(subject.by_text)
    start = _shared_start([text[:_SHARED_CHARACTERS] for text in texts])
    end = _shared_start([text[: -_SHARED_CHARACTERS - 1 : -1] for text in texts])[::-1]
    for edge, verb in ((start, "begin"), (end, "end")):
        if _is_template(edge):
            count = sum((str.startswith if verb == "begin" else str.endswith)(text, edge) for text in texts)
            yield _leftover(
                f"{counted(count, 'text')} of {len(texts):,} {verb} with the same words",
                count,
                [repr(blanked(edge))],
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
            f"{counted(len(broken), 'text was', 'texts were')} read in the wrong encoding at some point",
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


def personal_data(subject: Subject) -> Iterator[Finding]:
    """Texts with e-mail addresses, card numbers or telephone numbers; which they are is never shown."""
    numbered = [row for row in subject.rows if LONG_NUMBER.search(row.text)]
    mailing = [row for row in subject.rows if "@" in row.text]
    for kind, rows, has in (
        ("an e-mail address", mailing, has_email),
        ("a card number", numbered, has_card),
        ("a telephone number", numbered, has_phone),
    ):
        found = [row for row in rows if has(row.text)]
        if found:
            yield Finding(
                "personal-data",
                "warning",
                f"{counted(len(found), 'text seems', 'texts seem')} to hold {kind}",
                len(found),
                tuple(subject.at_all(found)),
                "Blank them out: no label needs them, and a hosted backend would send them away.",
            )
