"""Rows of a queue."""

from __future__ import annotations

from cascade.rows.readings import Columns
from cascade.teach.queue import QueuedRow
from cascade.teach.selection import Doubt

PLAIN = Columns()


def queued_row(number, proposed=("late",), text=None):
    doubts = (Doubt("near threshold", "late", 0.9),)
    return QueuedRow(
        number, text or f"text {number}", tuple(proposed), {"late": 0.3, "vat": 0.1}, doubts, "m" * 64
    )
