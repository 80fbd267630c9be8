"""A fixture of the protocol on an index that a test may change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from shelfwise.service.app import create_app
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.settings import ServiceSettings
from tests.services import local_client


@pytest.fixture
def served(live: SearchEngine) -> Iterator[TestClient]:
    """The owner's client of a service on `live`."""
    with local_client(create_app(live, ServiceSettings())) as client:
        yield client
