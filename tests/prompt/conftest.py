from __future__ import annotations

import pytest
from answering_service import Script, Service

from cascade.hosted.asker import Asker


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "any")


@pytest.fixture
def service():
    with Service(Script()) as running:
        yield running


@pytest.fixture
def asker():
    with Asker() as running:
        yield running
