"""A node model that is made of node models, one for each tier, and what it keeps in its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError
from cascade.nodes.contract import Backend, Contributions, Explainable, Knowing, NodeModel
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import WAY_OUT, read_json, write_json
from cascade.text.pieces import Pieces
from cascade.text.texts import Texts
from cascade.tiers.settle import Handover
from cascade.validation.calibration import Calibration

VERSION = 1
RECORD = "tiers.json"
# No calibration of ours comes near it.
STEEPEST = 1e4


@dataclass(frozen=True, eq=False)
class Tier:
    """One of the models of a group.

    Attributes
    ----------
    name
        What it knows: ``words``, ``encoder``, ``prompt`` or ``openai``.
    model
        The model.
    handover
        How it answers, and up to where; None of one that stands alone, whose scores are left as they are.
    """

    name: str
    model: NodeModel
    handover: Handover | None

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Its scores as those of all tiers are, float32, shape (n_texts, n_children), each in [0, 1]."""
        return scores if self.handover is None else self.handover.calibration.apply(scores)

    def is_sure(self, probabilities: FloatArray, texts: Texts) -> BoolArray:
        """Of which texts its answer stands, bool, shape (n_texts,); of none that it knows no word of."""
        if self.handover is None:
            return np.ones(len(texts), dtype=np.bool_)
        sure: BoolArray = self.handover.doubts(probabilities) <= self.handover.doubt
        return sure & (self.model.known(texts) > 0) if isinstance(self.model, Knowing) else sure

    def doubts(self, probabilities: FloatArray, texts: Texts) -> NDArray[np.float64]:
        """How much it doubts each text, float64, shape (n_texts,): without end where it knows no word."""
        if self.handover is None:
            return np.zeros(len(texts))
        found = self.handover.doubts(probabilities)
        return (
            np.where(self.model.known(texts) > 0, found, np.inf) if isinstance(self.model, Knowing) else found
        )


class TieredModel:
    """Answers by the cheapest of its tiers that is sure; the last one answers what is left.

    Attributes
    ----------
    all
        The tiers that answer anything, the cheapest first.
    """

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self.all = tuple(tiers)

    @property
    def tiers(self) -> tuple[str, ...]:
        """What they are called, the cheapest first."""
        return tuple(tier.name for tier in self.all)

    @property
    def last(self) -> NodeModel:
        """The model that answers what the others hand on."""
        return self.all[-1].model

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1].

        Dearer tiers see only the texts that are handed on to them.
        """
        answered_by, parts = self.cheap(texts)
        left = np.flatnonzero(answered_by == len(self.all) - 1)
        if len(left) or not parts:
            parts.append((left, self.all[-1].probabilities(self.last.scores(of(texts, left)))))
        return together(len(texts), parts)

    def cheap(self, texts: Texts) -> tuple[IntArray, list[tuple[IntArray, FloatArray]]]:
        """Which tier answers each text, int64, shape (n_texts,), and what all but the last one answer.

        For each of these the texts that it answers, by position, and their probabilities.
        """
        answered_by, left = np.full(len(texts), len(self.all) - 1, dtype=np.int64), np.arange(len(texts))
        parts = []
        for place, tier in enumerate(self.all[:-1]):
            if place and not len(left):
                break
            part = of(texts, left)
            own = tier.probabilities(tier.model.scores(part))
            sure = tier.is_sure(own, part)
            answered_by[left[sure]] = place
            parts.append((left[sure], own[sure]))
            left = left[~sure]
        return answered_by, parts

    def answered_by(self, texts: Texts) -> IntArray:
        """Which of the `tiers` answers each text, int64, shape (n_texts,); the last one is not asked."""
        return self.cheap(texts)[0]

    def doubts(self, texts: Texts) -> NDArray[np.float64]:
        """How much the tier before the last doubts each text, float64, shape (n_texts,).

        Below all doubts for a text that a cheaper one answers, infinite where it finds or knows nothing.
        """
        found, left = np.full(len(texts), -np.inf), np.arange(len(texts))
        for place, tier in enumerate(self.all[:-1]):
            if not len(left):
                break
            part = of(texts, left)
            own = tier.probabilities(tier.model.scores(part))
            if place == len(self.all) - 2:
                found[left] = tier.doubts(own, part)
            left = left[~tier.is_sure(own, part)]
        return found

    def with_doubt(self, doubt: float) -> Self:
        """The same, with the answers of the tier before the last standing up to this doubt."""
        *before, near, last = self.all
        if near.handover is None:
            raise ValueError(f"{near.name}: a tier that answers nothing")
        return type(self)([*before, replace(near, handover=replace(near.handover, doubt=doubt)), last])

    def with_last(self, model: NodeModel) -> TieredModel:
        """The same, with another model for what is handed on to the last tier."""
        kind = EmbeddedTiers if isinstance(self, EmbeddedTiers) else TieredModel
        return kind([*self.all[:-1], replace(self.all[-1], model=model)])

    def contributions_by_tier(
        self, texts: Texts, pieces: Sequence[Pieces] | None = None
    ) -> Iterator[Contributions | None]:
        """What each word of each text did to the log odds of each child, by the tier that answers the text.

        None where that one does not tell, as a service does not.
        """
        answered_by = self.answered_by(texts)
        told = [
            self._told_by(place, texts, np.flatnonzero(answered_by == place), pieces)
            for place in range(len(self.all))
        ]
        for place in answered_by.tolist():
            yield next(told[place])

    def _told_by(
        self, place: int, texts: Texts, rows: IntArray, pieces: Sequence[Pieces] | None
    ) -> Iterator[Contributions | None]:
        """What one tier tells of the texts at these positions."""
        tier = self.all[place]
        if not len(rows) or not isinstance(tier.model, Explainable):
            yield from repeat(None, len(rows))
            return
        own = None if pieces is None else [pieces[row] for row in rows.tolist()]
        for found in tier.model.contributions(of(texts, rows), own):
            yield found if tier.handover is None else _calibrated(found, tier.handover.calibration)

    def save(self, folder: Path) -> None:
        """A folder for each tier, and what tells how they go together."""
        write_json(folder / RECORD, {"version": VERSION, "tiers": [_told(tier) for tier in self.all]})
        for tier in self.all:
            (folder / tier.name).mkdir()
            tier.model.save(folder / tier.name)


class EmbeddedTiers(TieredModel):
    """The same where all tiers are embedded: it can tell how much of a text it knows."""

    def known(self, texts: Texts) -> FloatArray:
        """The share of each text that its words know, float32, shape (n_texts,)."""
        model = self.all[0].model
        return model.known(texts) if isinstance(model, Knowing) else np.ones(len(texts), dtype=np.float32)


def _calibrated(found: Contributions, calibration: Calibration) -> Contributions:
    """The same in log odds after calibration, which multiplies these and adds to them."""
    slopes = found.unit * calibration.slopes
    return replace(
        found,
        values=found.values * slopes,
        rest=found.rest * slopes + calibration.offsets,
        beside={name: one * slopes for name, one in found.beside.items()},
        unit=1.0,
    )


def of(texts: Texts, rows: IntArray) -> Texts:
    """The texts at these positions, by themselves where others are not to be looked at."""
    return texts if len(rows) == len(texts) else texts.apart(rows)


def together(n_texts: int, parts: Sequence[tuple[IntArray, FloatArray]]) -> FloatArray:
    """The scores of all texts from those of some, float32, shape (n_texts, n_children)."""
    found = np.full((n_texts, parts[0][1].shape[1]), np.nan, dtype=np.float32)
    for rows, scores in parts:
        found[rows] = scores
    return found


def _told(tier: Tier) -> dict[str, Any]:
    if tier.handover is None:
        return {"name": tier.name, "handover": None}
    handover = tier.handover
    told = {
        "slopes": handover.calibration.slopes.tolist(),
        "offsets": handover.calibration.offsets.tolist(),
        "cut": _finite(handover.cut),
        "doubt": _finite(handover.doubt),
        "exclusive": handover.exclusive,
        "may_be_none": handover.may_be_none,
    }
    return {"name": tier.name, "handover": told}


def _finite(number: float) -> float | None:
    """None for what JSON has no number for."""
    return number if np.isfinite(number) else None


def loaded(folder: Path, backends: Mapping[str, Backend]) -> list[Tier]:
    """The tiers that `TieredModel.save` wrote; ModelError where the folder holds none of these `backends`.

    Parameters
    ----------
    backends
        What loads each tier, by its name, the cheapest first.
    """
    told = read_json(folder / RECORD)
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise ModelError(f"{folder / RECORD}: made by another version. Run `cascade fit` again.")
    try:
        named = [(str(one["name"]), _handover(one["handover"])) for one in told["tiers"]]
        _check([name for name, _ in named], [one for _, one in named], list(backends))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / RECORD}: no tiers of a group: {error!r}. {WAY_OUT}") from error
    tiers = [Tier(name, backends[name].load(folder / name), handover) for name, handover in named]
    for tier in tiers[:-1]:  # the last one may be a service, which takes money
        n_children = tier.model.scores(Texts([""])).shape[1]
        if tier.handover is None or len(tier.handover.calibration.slopes) != n_children:
            raise ModelError(
                f"{folder / tier.name}: {n_children} children, and not as many before. {WAY_OUT}"
            )
    return tiers


def _handover(told: Any) -> Handover | None:
    if told is None:
        return None
    slopes, offsets = (np.array(told[name], dtype=np.float64) for name in ("slopes", "offsets"))
    cut, doubt = (np.inf if told[name] is None else float(told[name]) for name in ("cut", "doubt"))
    sound = ((slopes > 0) & (slopes <= STEEPEST) & (np.abs(offsets) <= STEEPEST)).all()
    if not sound or slopes.ndim != 1 or slopes.shape != offsets.shape or not (cut >= 0 and doubt >= 0):
        raise ValueError("expected calibrations, and numbers of 0 or more")
    return Handover(
        Calibration(slopes, offsets), cut, doubt, bool(told["exclusive"]), bool(told["may_be_none"])
    )


def _check(names: Sequence[str], handovers: Sequence[Handover | None], known: Sequence[str]) -> None:
    """ValueError where tiers are not some of those that are known, in their order, and the last of these."""
    if not names or list(names) != [name for name in known if name in names] or names[-1] != known[-1]:
        raise ValueError(f"expected some of {', '.join(known)}, in this order")
    lengths = {None if one is None else len(one.calibration.slopes) for one in handovers}
    if len(lengths) != 1 or (None in lengths) != (len(names) == 1):
        raise ValueError("expected as many calibrations of each")
