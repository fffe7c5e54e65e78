from __future__ import annotations

import pytest
from evaluated_rows import TREE, rows
from small_evaluations import NO_GROUPS, evaluate, scored, truth_of
from small_evaluations import TREE as SMALL_TREE

from cascade.fitted import Cascade
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture(scope="module")
def model():
    training = list(rows(400, 1))
    tree = Taxonomy.from_dict(TREE)
    return Cascade.fit(tree, [row["text"] for row in training], [row["labels"] for row in training])


@pytest.fixture(scope="module")
def evaluated(model):
    test = list(rows(150, 2))
    return model.evaluated(*([row[name] for row in test] for name in ("text", "labels", "id")))


@pytest.fixture
def evaluation():
    """Five texts: right, missed by the router, wrong by the router, missed by a threshold, none."""
    truth = truth_of(SMALL_TREE, {"x"}, {"w"}, {"y"}, {"x", "y"}, set())
    answers = scored(
        SMALL_TREE,
        ({"x"}, {"a": 0.9, "x": 0.9}),
        ({"a"}, {"a": 0.8, "x": 0.3}),
        ({"y", "x"}, {"a": 0.7, "x": 0.6, "b": 0.9, "y": 0.8, "w": 0.1}),
        ({"y"}, {"a": 0.6, "x": 0.4, "b": 0.9, "y": 0.9, "w": 0.2}),
        (set(), {"a": 0.3, "x": 0.1}),
    )
    oracle = scored(
        SMALL_TREE,
        ({"x"}, {"a": 1, "x": 0.95}),
        ({"w"}, {"a": 1, "b": 1, "c": 1, "x": 0.1, "y": 0.1, "w": 0.9}),
        ({"y"}, {"b": 1, "y": 0.9, "w": 0.1}),
        ({"y"}, {"a": 1, "b": 1, "x": 0.6, "y": 0.95, "w": 0.2}),
        (set(), {}),
    )
    return evaluate(SMALL_TREE, truth, answers, oracle, always=NO_GROUPS)
