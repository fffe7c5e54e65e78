"""A second pass over texts that were walked: what is in doubt is asked about again."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from cascade.backends import verdict_model
from cascade.hosted.asker import Asker
from cascade.model.descriptions import Doubting
from cascade.model.folder import Manifest
from cascade.model.verification import Decide, DoubtFinder, DoubtfulLabels, Verification, checked
from cascade.model.walk import Checked, Walked
from cascade.nodes.contract import Doubted
from cascade.prompt.pricing import QuestionPrice
from cascade.prompt.verdicts import VerdictModel
from cascade.system.array_types import FloatArray
from cascade.taxonomy.definition import Taxonomy
from cascade.text.texts import Texts

# So many questions tell what one takes.
_MOST_PRICED = 100


class Verifier:
    """Asks about the labels of texts that are in doubt, and has the walk know the answers.

    Attributes
    ----------
    taxonomy, verification
        What the labels are, and what was settled of a second pass over them.
    """

    def __init__(
        self, taxonomy: Taxonomy, manifest: Manifest, verification: Verification, asker: Asker | None = None
    ) -> None:
        self.taxonomy, self.verification = taxonomy, verification
        self._thresholds, self._asker = manifest.thresholds, asker

    @cached_property
    def _finder(self) -> DoubtFinder:
        return DoubtFinder(self.verification, self.taxonomy.graph, self._thresholds)

    @cached_property
    def _doubting(self) -> Doubting:
        return Doubting(self.taxonomy)

    @cached_property
    def model(self) -> VerdictModel:
        """What is asked."""
        return verdict_model(self.verification.backend, self._asker)

    def asked(self, walked: Walked, decide: Decide) -> DoubtfulLabels:
        """The labels that are worth a question."""
        least = self.verification.least_doubt
        return self._finder.doubtful(walked, decide, least).asked(least)

    def questions(self, asked: DoubtfulLabels, texts: Texts) -> list[Doubted]:
        """What is asked about each."""
        return self._doubting.of(asked, texts)

    def price(self, asked: DoubtfulLabels, texts: Texts) -> QuestionPrice:
        """What a question takes and costs, by the first of these."""
        return self.model.price(self.questions(asked, texts)[:_MOST_PRICED])

    def usd(self, checked: Checked, texts: Texts) -> float | None:
        """What questions about labels that were asked about cost; None where the prices are not known."""
        if not len(checked.rows):
            return 0.0
        usd = self.price(DoubtfulLabels.of_checked(checked, self.taxonomy.graph), texts).usd
        return None if usd is None else usd * len(checked.rows)

    def verified(self, walked: Walked, decide: Decide, texts: Texts) -> Walked:
        """The walk with what answers made of its probabilities; `Walked.checked` tells which.

        A label without an answer that can be read keeps its own.

        Raises
        ------
        ServiceError
            The service answers nothing at all.
        """
        asked = self.asked(walked, decide)
        answers: FloatArray = np.empty(0, dtype=np.float32)
        if len(asked):
            answers = self.model.yes(self.questions(asked, texts))
        return checked(self.verification, walked, asked, answers)
