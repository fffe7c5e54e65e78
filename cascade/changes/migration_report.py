"""What a migration did, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.rows.row import BadRow


@dataclass(frozen=True)
class MigratedFile:
    """One file that was migrated.

    Attributes
    ----------
    rows, changed, refused
        How many it has, how many do not stand as they stood, and those carried over as they are.
    labels
        How many labels of its rows were kept, renamed, moved, merged, split, left open or removed.
    queued
        Rows of which a person has still to say a label.
    answered
        Rows of which a person has said it.
    """

    source: str
    out: str
    rows: int
    changed: int
    refused: tuple[BadRow, ...]
    labels: Mapping[str, int]
    queued: int
    answered: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, refused rows with number and reason."""
        refused = [{"row": bad.number, "id": bad.id, "reason": bad.reason} for bad in self.refused]
        plain = {
            name: getattr(self, name) for name in ("source", "out", "rows", "changed", "queued", "answered")
        }
        return {**plain, "labels": dict(self.labels), "refused": refused, "notes": list(self.notes)}


@dataclass(frozen=True)
class MigrationReport:
    """What was migrated.

    Attributes
    ----------
    queue
        The file of rows for a person to look at; None where there are none.
    questions
        How many rows are in it: rows that are the same in id and text are asked once.
    decisions
        What was decided by a person, as it stands in a file of decisions.
    unused_answers
        Answers to rows that are in no file, or of which nothing is open.
    """

    files: tuple[MigratedFile, ...]
    queue: str | None
    questions: int
    decisions: Mapping[str, str]
    unused_answers: int = 0

    @property
    def refused(self) -> tuple[BadRow, ...]:
        """Rows of all files that were carried over as they are."""
        return tuple(bad for one in self.files for bad in one.refused)

    @property
    def labels(self) -> dict[str, int]:
        """Labels of the rows of all files, by what became of them."""
        return dict(sum((Counter(dict(one.labels)) for one in self.files), Counter()))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        totals = {
            name: sum(getattr(one, name) for one in self.files)
            for name in ("rows", "changed", "queued", "answered")
        }
        return {
            "files": [one.to_json() for one in self.files],
            **totals,
            "refused": len(self.refused),
            "labels": self.labels,
            "queue": self.queue,
            "questions": self.questions,
            "decisions": dict(self.decisions),
            "unused_answers": self.unused_answers,
        }
