"""The groups and labels of a taxonomy."""

from __future__ import annotations

from dataclasses import dataclass, field

from cascade.errors import Place
from cascade.taxonomy.settings import BackendSpec, Choose, Negatives, Route, Threshold


@dataclass(frozen=True)
class Label:
    """A name that a text can carry, with one place for each time it stands in the file.

    `last_name` is what it is called in its groups: the end of a path, a plain name as it is. `within` is the
    group that it is written in, the first one if it stands in several; empty for the root.
    """

    name: str
    last_name: str
    within: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    threshold: Threshold | None = None
    places: tuple[Place, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Group:
    """An inner node with its settings, inherited ones included.

    `children` come in the order of the file, then groups that stand elsewhere and are ``also_in`` this one.
    `last_name` is what it is called in its groups: the end of a path, a plain name as it is.
    `within` is the group that it is written in, whose settings it inherits; None for the root.
    `escalate` names what answers at it, the cheapest first; empty where that is its `backend` alone.
    `places` are that of its definition, then one for each ``also_in``.
    """

    name: str
    last_name: str
    description: str
    aliases: tuple[str, ...]
    children: tuple[str, ...]
    choose: Choose
    route: Route
    threshold: Threshold
    negatives: Negatives
    back_off: bool
    backend: BackendSpec
    within: str | None
    escalate: tuple[str, ...] = ()
    places: tuple[Place, ...] = field(default=(), compare=False)
