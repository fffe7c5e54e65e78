"""Tiers with a service at the end, which is asked about what the others hand on and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cascade.hosted.asker import Asker
from cascade.hosted.backend import Asking, Rounds, asked_alone
from cascade.nodes.contract import Quoting, RowsError
from cascade.system.array_types import FloatArray
from cascade.text.texts import Texts
from cascade.tiers.model import TieredModel, of, together


class AskingTiers(TieredModel):
    """Its questions go together with those of all groups of a level, see `Asking`."""

    @property
    def _service(self) -> Asking:
        if not isinstance(self.last, Asking):
            raise TypeError(type(self.last).__name__)
        return self.last

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return self._service.asker

    def rounds(self, texts: Texts) -> Rounds:
        """The questions about texts that the cheaper tiers doubt, and what comes of all."""
        answered_by, parts = self.cheap(texts)
        left = np.flatnonzero(answered_by == len(self.all) - 1)
        reasons: Mapping[int, str] = {}
        if len(left) or not parts:
            scores, reasons = yield from self._service.rounds(of(texts, left))
            parts.append((left, self.all[-1].probabilities(scores)))
        return together(len(texts), parts), {int(left[place]): why for place, why in reasons.items()}

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1].

        Raises
        ------
        RowsError
            Some texts that had to be asked about got no answer that can be read.
        ServiceError
            The service answers nothing at all, for want of money, rights or the model.
        """
        scores, reasons = asked_alone(self.asker, self.rounds(texts))
        if reasons:
            raise RowsError(scores, reasons)
        return scores


class QuotingTiers(AskingTiers):
    """The same where the service can quote: it does from the texts that it answers."""

    def quotations(self, texts: Texts) -> Sequence[Mapping[int, Sequence[str]]]:
        """As `Quoting` has it; nothing is quoted from texts that a cheaper tier answers."""
        found: list[Mapping[int, Sequence[str]]] = [{} for _ in texts]
        rows = np.flatnonzero(self.answered_by(texts) == len(self.all) - 1)
        if len(rows) and isinstance(self.last, Quoting):
            for row, said in zip(rows.tolist(), self.last.quotations(texts.apart(rows)), strict=True):
                found[row] = said
        return found
