from __future__ import annotations

import pytest
from answering_service import Script, Service
from hosted_runs import sandbox

from cascade.hosted.asker import Asker


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "any")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """That of a sandbox of the module's own."""
    with sandbox(tmp_path_factory.mktemp("sandbox")) as found:
        yield found


@pytest.fixture
def service():
    with Service(Script()) as running:
        yield running


@pytest.fixture
def asker():
    with Asker() as running:
        yield running
