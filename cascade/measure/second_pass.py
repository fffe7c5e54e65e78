"""What asking about doubtful labels again changed, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade.measure.known_cells import KnownCells
from cascade.measure.metrics import macro_f1, micro_f1, precision_at_1
from cascade.measure.sparse import Flags, both, by_column, without
from cascade.model.walk import Checked


@dataclass(frozen=True, slots=True)
class SecondPass:
    """An evaluation without its second pass, and what this took.

    Attributes
    ----------
    rows : rows of which labels were asked about again
    questions, unanswered : labels that were asked about, and those without an answer that can be read
    righted, wronged : labels that were wrong without it and are right with it, and the other way round, as
        far as the truth is known
    micro_f1, macro_f1 : without it
    precision_at_1 : without it; None without a row that has a label
    usd : what the questions cost, if none of their answers was kept from before; None where the prices are
        not known
    """

    rows: int
    questions: int
    unanswered: int
    righted: int
    wronged: int
    micro_f1: float
    macro_f1: float
    precision_at_1: float | None
    usd: float | None


def second_pass(before: KnownCells, after: KnownCells, checked: Checked, usd: float | None) -> SecondPass:
    """What became of the answers `before`; both are those of the same rows."""
    truth = before.truth
    added, taken = without(after.chosen, before.chosen), without(before.chosen, after.chosen)
    return SecondPass(
        rows=len(np.unique(checked.rows)),
        questions=len(checked.rows),
        unanswered=int(np.isnan(checked.answers).sum()),
        righted=_count(both(added, truth)) + _count(without(taken, truth)),
        wronged=_count(without(added, truth)) + _count(both(taken, truth)),
        micro_f1=micro_f1(truth, before.chosen),
        macro_f1=macro_f1(truth, before.chosen),
        precision_at_1=precision_at_1(truth, before.paths),
        usd=usd,
    )


def _count(flags: Flags) -> int:
    return int(by_column(flags).sum())
