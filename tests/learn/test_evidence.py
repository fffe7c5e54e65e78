"""How much of a text has to be known, settled on rows that no model knew."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.learn.evidence import MANY_ROWS, MOST_SILENT, SHARES, greatest_share


def settled(rows, *, micro_f1=0.6, positives=20_000, labelled=10_000):
    """The share settled by rows of (known share, has a label, is answered, rightly)."""
    shares = np.array([share for share, *_ in rows], dtype=np.float32)
    truth = np.array([[has, False] for _, has, _, _ in rows], dtype=bool).reshape(-1, 2)
    chosen = np.array([[answered and right, answered and not right] for _, _, answered, right in rows])
    return greatest_share(
        shares,
        truth,
        chosen.astype(bool).reshape(-1, 2),
        micro_f1=micro_f1,
        positives=positives,
        labelled=labelled,
    )


def test_rows_that_are_answered_rightly_are_not_silenced():
    assert settled([(0.12, True, True, True)] * 5) == 0.1


def test_rows_that_are_answered_wrongly_are_silenced():
    wrong = [(0.12, False, True, False)] * 20
    right = [(0.22, True, True, True)] * 40
    assert settled([*wrong, *right]) == 0.2


def test_a_little_is_lost_only_where_rows_without_labels_are_spared():
    right = [*[(0.22, True, True, True)] * 4, *[(0.28, True, True, True)] * 9]
    assert settled([*right, (0.24, False, True, False)]) == 0.25
    assert settled([*right, (0.24, False, False, False)]) == 0.2


def test_more_than_a_hundredth_of_the_rows_with_labels_never_falls_silent():
    most = int(MOST_SILENT * 10_000)
    assert settled([(0.01, True, True, False)] * most) == SHARES[-1]
    assert settled([(0.01, True, True, False)] * (most + 1)) == SHARES[0]


def test_few_rows_say_nothing_of_texts_that_are_known_less_than_they_are():
    assert settled([], labelled=MANY_ROWS) == SHARES[-1]
    assert settled([], labelled=MANY_ROWS - 1) == 0.0
    wrong = [(0.12, False, True, False)]
    assert settled(wrong, labelled=MANY_ROWS - 1) == 0.15


@pytest.mark.parametrize("share", SHARES)
def test_a_bound_is_a_share_of_the_short_list(share):
    assert settled([(share, False, True, False)] * 30, labelled=100) == share
