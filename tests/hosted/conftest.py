from __future__ import annotations

import pytest
from answering_service import (
    Script,
    Service,
)
from hosted_runs import sandbox


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as found:
        yield found


@pytest.fixture
def service():
    with Service(Script(answer=lambda text: str(len(text)))) as running:
        yield running
