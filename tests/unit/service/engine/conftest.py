"""Fixtures of the engine's tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest

from shelfwise.service.engine import reranking
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from tests.unit.service.engine.demo_rankers import publish, spec_for


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps candidates of all types and similarities, in the order of the ranker alone."""
    monkeypatch.setattr(
        Stages, "_are_near", lambda _stages, _request, nearest, _wanted: np.ones(len(nearest.rows), bool)
    )
    monkeypatch.setattr(reranking, "OF_TYPE", 0.0)
    monkeypatch.setattr(reranking, "OF_SURE_TYPE", 0.0)


@pytest.fixture(scope="module")
def open_ranked(
    engine: SearchEngine, demo_index: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., SearchEngine]]:
    """Opens a copy of the demo index whose ranker has a graph and values of its spec, until the end of the module."""
    with ExitStack() as opened:

        def open_copy(graph: onnx.ModelProto, **values: object) -> SearchEngine:
            root = Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("ranked") / "index"))
            publish(root, spec_for(engine.snapshot, **values), graph)
            return opened.enter_context(SearchEngine.open(root))

        yield open_copy
