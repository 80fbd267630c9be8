"""Fixtures of the engine's tests."""

from __future__ import annotations

import math

import pytest

from service.engine import reranking
from service.engine.candidates import CandidateLimits, Stages


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates of all types and similarities, in the order of the ranker alone."""
    unlimited = CandidateLimits(math.inf, math.inf)
    monkeypatch.setattr(Stages.__init__, "__defaults__", (*(Stages.__init__.__defaults__ or ())[:-1], unlimited))
    monkeypatch.setattr(reranking, "OF_TYPE", 0.0)
    monkeypatch.setattr(reranking, "OF_SURE_TYPE", 0.0)
