"""Batches: each row once an epoch, like lengths together, and where rows stand in their lessons."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.trunk.batches import Places, batches
from cascade.trunk.heads import Lesson

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=80)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
def test_each_row_teaches_once_an_epoch(lengths, size, seed, epoch):
    rows = np.flatnonzero(np.arange(len(lengths)) % 3 != 1)
    found = batches(np.array(lengths), rows, size, seed, epoch)
    assert sorted(np.concatenate(found).tolist() if found else []) == rows.tolist()
    assert all(len(one) <= size for one in found)
    assert len(found) == -(-len(rows) // size)


def test_rows_of_like_length_stand_together():
    lengths = np.random.default_rng(0).integers(1, 200, size=1000)
    spread = [np.ptp(lengths[one]) for one in batches(lengths, np.arange(1000), 20, seed=0, epoch=0)]
    assert max(spread) < 20


def test_epochs_differ_and_a_seed_repeats_them():
    lengths, rows = np.full(100, 7), np.arange(100)
    first, again, second = (
        np.concatenate(batches(lengths, rows, 10, 3, epoch)).tolist() for epoch in (0, 0, 1)
    )
    assert first == again
    assert first != second


@given(st.data())
def test_places_tell_each_lesson_which_rows_of_a_batch_it_teaches(data):
    n_texts = data.draw(st.integers(1, 30))
    lessons = []
    for _ in range(data.draw(st.integers(1, 4))):
        rows = np.array(sorted(data.draw(st.sets(st.integers(0, n_texts - 1)))), dtype=np.int64)
        n_children = data.draw(st.integers(1, 3))
        lessons.append(Lesson(rows, np.zeros((len(rows), n_children), dtype=bool), exclusive=False))
    places = Places(lessons, n_texts)
    batch = np.array(data.draw(st.lists(st.integers(0, n_texts - 1), unique=True)), dtype=np.int64)
    found = {number: (rows, inside) for number, rows, inside in places.taught(batch)}
    for number, lesson in enumerate(lessons):
        expected = [at for at, row in enumerate(batch.tolist()) if row in lesson.rows]
        rows, inside = found.get(number, (np.zeros(0, dtype=int), np.zeros(0, dtype=int)))
        assert sorted(rows.tolist()) == expected
        assert lesson.rows[inside].tolist() == batch[rows].tolist()
    widths = [one.stop - one.start for one in places.columns]
    assert widths == [lesson.targets.shape[1] for lesson in lessons]
