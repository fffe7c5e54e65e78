from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from shop import SHOP, Shop, shop_rows

from cascade.learn.fit import fit
from cascade.system.home import VARIABLE
from cascade.taxonomy.definition import Taxonomy

# Where nothing compiled may be kept, each of the many commands that tests start compiles all of ours.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples on every machine, however slow; `--hypothesis-profile=default` looks for others.
settings.register_profile("cascade", derandomize=True, deadline=None)
settings.load_profile("cascade")


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    """A data folder for the tests of a file, and for the processes that they start: never the user's own."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="session")
def shop() -> Shop:
    """A taxonomy of four groups and two levels, with 300 rows."""
    return Shop(Taxonomy.from_dict(SHOP), *shop_rows(300, seed=0))


@pytest.fixture(scope="session")
def shop_model(shop, tmp_path_factory) -> Path:
    """The model folder of the shop; tests copy it before they change anything."""
    folder = tmp_path_factory.mktemp("shop") / "model"
    fit(shop.taxonomy, shop.texts, shop.labels, folder)
    return folder
