"""More columns of prediction rows: those of the input, the levels of labels, and one for each label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from cascade.errors import DataError, suggestion
from cascade.rows.readings import DELIMITER
from cascade.rows.row import quoted
from cascade.rows.tables import Kind, TableShape
from cascade.taxonomy.definition import Taxonomy

ALL = "*"
"""In place of the names of columns: all of them."""
_ANSWER = ("id", "labels", "scores", "calibrated", "evidence", "trace")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Style:
    """What a prediction row shows; see `Request`.

    `keep` are columns of the input, `ALL` of them or some; `wide` adds a column for each label; `paths` one
    for each level of the taxonomy; `evidence` what in the text carries each label; `uncalibrated` says that
    no row has settled probabilities and thresholds.
    """

    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False
    keep: tuple[str, ...] = ()
    wide: Literal["flags", "scores"] | None = None
    paths: bool = False
    evidence: bool = False
    uncalibrated: bool = False

    @property
    def shows_all(self) -> bool:
        """Whether all labels that were looked at have their scores told."""
        return self.scores == "all" or self.wide == "scores"

    @property
    def is_plain(self) -> bool:
        """Whether a row shows nothing but the answer."""
        return not (self.keep or self.wide or self.paths)


class Extras(NamedTuple):
    """More columns of an answer: those of the input, the levels of its labels, one for each label."""

    kept: Mapping[str, Any]
    levels: Mapping[str, str]
    wide: Mapping[str, int | float | None]


NO_EXTRAS = Extras({}, {}, {})


@dataclass(frozen=True)
class ExtraColumns:
    """The columns that a style adds to the answers of a taxonomy."""

    taxonomy: Taxonomy
    style: Style

    def check(self, present: Sequence[str] | None) -> None:
        """DataError where columns would have the same name, or one to be kept is not `present`.

        `present` is None where rows have columns of their own.
        """
        own = (*self.answer, *self.levels)
        for label in self.taxonomy.labels if self.style.wide else ():
            if label in own:
                raise DataError(
                    f"label {quoted(label)} has the name of a column of the answers; leave --wide out"
                )
        if present is not None and ALL not in self.style.keep:
            for column in self.style.keep:
                if column not in present:
                    shown = ", ".join(map(quoted, present[:_SHOWN]))
                    raise DataError(
                        f"no column {quoted(column)} to keep; there are {shown}.{suggestion(column, present)}"
                    )

    def of(
        self, labels: Sequence[str], scores: Sequence[tuple[str, float]], source: Mapping[str, Any]
    ) -> Extras:
        """The columns beside an answer with these labels and scores to a row with the columns `source`."""
        return Extras(dict(self._kept(source)), self._levels_of(labels), self._wide(labels, scores))

    def _kept(self, source: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        wanted = source if ALL in self.style.keep else self.style.keep
        for column in wanted:
            if column not in source:
                continue
            own = column in self.answer or column in self.levels
            taken = own or (self.style.wide and column in self._labels)
            yield (f"{column} (input)" if taken else column), source[column]

    @cached_property
    def answer(self) -> tuple[str, ...]:
        """The names of the columns that an answer has of its own, or may have."""
        return (*_ANSWER, "evidence") if self.style.evidence else _ANSWER

    @cached_property
    def levels(self) -> tuple[str, ...]:
        """The names of the columns for levels."""
        if not self.style.paths:
            return ()
        depth = max(map(len, self._paths.values()))
        return tuple(f"level{number}" for number in range(1, depth + 1))

    def _levels_of(self, labels: Sequence[str]) -> dict[str, str]:
        """At each level the names of all labels; empty where a label has no such level."""
        found = {}
        for place, column in enumerate(self.levels):
            names = [
                path[place] if place < len(path) else "" for path in map(self._paths.__getitem__, labels)
            ]
            found[column] = DELIMITER.join(names) if any(names) else ""
        return found

    def _wide(
        self, labels: Sequence[str], scores: Sequence[tuple[str, float]]
    ) -> dict[str, int | float | None]:
        if self.style.wide is None:
            return {}
        if self.style.wide == "scores":
            found = dict(scores)
            return {label: found.get(label) for label in self.taxonomy.labels}
        chosen = frozenset(labels)
        return {label: int(label in chosen) for label in self.taxonomy.labels}

    @cached_property
    def _labels(self) -> frozenset[str]:
        return frozenset(self.taxonomy.labels)

    @cached_property
    def _paths(self) -> dict[str, tuple[str, ...]]:
        """Each node -> the names from the top down to it."""
        nodes = self.taxonomy.graph.nodes
        return {name: tuple(self.taxonomy.path_to(name)) for name in nodes}

    @property
    def shape(self) -> TableShape:
        """The columns of a table of answers."""
        wide = tuple(self.taxonomy.labels) if self.style.wide else ()
        mark = ("calibrated",) if self.style.uncalibrated else ()
        evidence = ("evidence",) if self.style.evidence else ()
        trace = ("trace",) if self.style.trace else ()
        kinds: dict[str, Kind] = {"labels": "names", "scores": "numbers by name"}
        kinds |= dict.fromkeys(evidence, "evidence")
        kinds |= dict.fromkeys(wide, "flag" if self.style.wide == "flags" else "number")
        behind = ("labels", *self.levels, "scores", *mark, *evidence, *wide, *trace)
        return TableShape(("id",), behind, kinds, has_more=bool(self.style.keep))
