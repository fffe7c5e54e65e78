from __future__ import annotations

import pytest
from served import serving

from cascade.predict.cascade import Cascade


@pytest.fixture(scope="module")
def port(shop_model):
    with serving(shop_model) as (port, _):
        yield port


@pytest.fixture(scope="module")
def model(shop_model):
    return Cascade.load(shop_model)
