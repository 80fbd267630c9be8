"""Fixtures of the engine's tests."""

from __future__ import annotations

import numpy as np
import pytest

from shelfwise.service.engine import reranking
from shelfwise.service.engine.candidates import Stages


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps candidates of all types and similarities, in the order of the ranker alone."""
    monkeypatch.setattr(
        Stages, "_are_near", lambda _stages, _request, nearest, _wanted: np.ones(len(nearest.rows), bool)
    )
    monkeypatch.setattr(reranking, "OF_TYPE", 0.0)
    monkeypatch.setattr(reranking, "OF_SURE_TYPE", 0.0)
