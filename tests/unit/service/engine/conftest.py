"""Fixtures of the engine's tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.records import Product
from shelfwise.service.engine import reranking
from shelfwise.service.engine.candidates import Stages
from shelfwise.service.engine.engine import SearchEngine
from tests.catalogs import write_feed
from tests.conftest import ENCODER
from tests.unit.service.engine.demo_rankers import publish, spec_for


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps candidates of all types and similarities, in the order of the ranker alone."""
    monkeypatch.setattr(
        Stages, "_are_near", lambda _stages, _request, nearest, _wanted: np.ones(len(nearest.rows), bool)
    )
    monkeypatch.setattr(reranking, "OF_TYPE", 0.0)
    monkeypatch.setattr(reranking, "OF_SURE_TYPE", 0.0)


@pytest.fixture(scope="session")
def build_index(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds an index of products with options of a rebuild."""

    def build(products: Iterable[Product], **options: Any) -> Path:  # noqa: ANN401 - those of RebuildOptions
        folder = tmp_path_factory.mktemp("built")
        feed = write_feed(folder / "products.jsonl", products)
        rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=ENCODER, **options))
        return folder / "index"

    return build


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
