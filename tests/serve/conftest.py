from __future__ import annotations

import pytest
from served import serving
from shop import SHOP

from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture(scope="module")
def port(shop_model):
    with serving(shop_model) as (port, _):
        yield port


@pytest.fixture(scope="module")
def model(shop_model):
    return Cascade.load(shop_model)


@pytest.fixture(scope="session")
def renamed_model(shop, tmp_path_factory):
    """The model folder of the shop after `late` was renamed to `too_late`, without an alias."""
    groups = SHOP["groups"] | {"delivery": {"labels": ["too_late", "broken"]}}
    labels = [["too_late" if name == "late" else name for name in names] for names in shop.labels]
    folder = tmp_path_factory.mktemp("renamed") / "model"
    fit(Taxonomy.from_dict(SHOP | {"groups": groups}), shop.texts, labels, folder)
    return folder
