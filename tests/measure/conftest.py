from __future__ import annotations

import pytest
from evaluated_rows import TREE, rows

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
