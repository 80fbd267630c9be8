"""Fixtures of the engine's tests."""

from __future__ import annotations

import math

import pytest

from service.engine import candidates, reranking


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates of all types and similarities, in the order of the ranker alone."""
    for module, name, value in (
        (candidates, "MARGIN", math.inf),
        (candidates, "OTHER_TYPE_MARGIN", math.inf),
        (reranking, "OF_TYPE", 0.0),
        (reranking, "OF_SURE_TYPE", 0.0),
    ):
        monkeypatch.setattr(module, name, value)
