"""What a fit tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cascade.model.folder import GroupRecord


@dataclass(frozen=True)
class Event:
    """A step of `fit`: ``settled`` a policy, ``reused`` or ``fitted`` a group, ``decided`` thresholds.

    ``noted`` is what a user should know. What is done for a `first_look` is a ``first look``.

    `done` of `total` groups are in the model by now.
    """

    kind: str
    group: str
    detail: str
    done: int
    total: int


Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Report nothing."""


def as_first_look(report: Report, event: Event) -> None:
    """Report a step of the fit of words alone beside a model with an encoder."""
    report(replace(event, kind="first look"))


def summary(record: GroupRecord) -> str:
    """What was made for a group, in words."""
    made = f"{record.rows} rows, {len(record.positives)} children, {record.backend['kind']}"
    return made + (", negatives all" if record.negatives == "all" else "") + settled(record.notes)


# What tells people nothing.
_UNTOLD = ("prompt",)


def settled(notes: Mapping[str, Any]) -> str:
    """What its backend settled, in words."""
    return "".join(
        f", {name} = {_shown(name, value)}" for name, value in notes.items() if name not in _UNTOLD
    )


def _shown(name: str, value: Any) -> str:
    if name == "tiers":
        return shares_of_tiers(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def shares_of_tiers(shares: Mapping[str, float]) -> str:
    """Which share of the held-out rows each tier of a group answers, in words."""
    return " / ".join(f"{name} {share:.0%}" for name, share in shares.items())
