"""What the heads of a trunk have to learn, and which rows judge them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cascade.learn.datasets import Dataset
from cascade.learn.trunks import scored_rows, taught
from cascade.taxonomy.graph import ROOT
from cascade.trunk.trainer import ALL


def test_a_head_is_judged_on_its_own_rows_and_that_of_all_rows_on_all(shop):
    dataset = Dataset.make(shop.taxonomy, shop.texts, shop.labels)
    group = next(name for name in shop.taxonomy.graph.groups if name != ROOT)
    problem = dataset.problem(group, np.arange(len(shop.texts)), seed=0)
    held_out = np.arange(len(shop.texts)) % 10 == 0
    own = scored_rows(problem, held_out, "siblings")
    assert (own == (held_out & dataset.reaching(group))).all()
    assert 0 < own.sum() < held_out.sum()
    assert (scored_rows(problem, held_out, "all") == held_out).all()


def test_each_group_has_a_head_of_its_own_rows_and_one_of_all_but_the_root_one(shop):
    dataset = Dataset.make(shop.taxonomy, shop.texts, shop.labels)
    groups = [name for name in shop.taxonomy.graph.groups if shop.taxonomy.scored_children(name)]
    found = taught(dataset, groups, np.zeros(len(shop.texts), dtype=bool), seed=0)
    assert set(found.lessons) == {*groups, *(group + ALL for group in groups if group != ROOT)}
    for group in groups:
        assert (found.lessons[group].rows == dataset.rows(group, "siblings")).all()
        if group != ROOT:
            everywhere = found.lessons[group + ALL]
            assert (everywhere.rows == dataset.rows(group, "all")).all()
            assert not everywhere.exclusive
    assert replace(found, seed=1).hashes() == found.hashes()
