from __future__ import annotations

import pytest
from evaluated_rows import TREE, rows

from cascade.fitted import Cascade
from cascade.learn.truth import label_truth
from cascade.measure.error_causes import Predictions
from cascade.measure.evaluate import evaluate
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture(scope="module")
def model():
    training = list(rows(400, 1))
    tree = Taxonomy.from_dict(TREE)
    return Cascade.fit(tree, [row["text"] for row in training], [row["labels"] for row in training])


@pytest.fixture(scope="module")
def evaluated(model):
    test = list(rows(150, 2))
    texts, truth = [row["text"] for row in test], label_truth(model.graph, [row["labels"] for row in test])
    walked, ideal = model.walk(texts), model.oracle(texts, truth)
    scored, oracle = (Predictions(one.paths, model.decide(one)) for one in (walked, ideal))
    found = evaluate(model.graph, truth, scored, oracle, always=frozenset({"mood"}))
    ids = [row["id"] for row in test]
    return EvaluatedRows(model.taxonomy, model.manifest, texts, ids, truth, scored, oracle, found)
