"""Small networks, exported once for all tests of this folder, as an export takes seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shelfwise.rerank.model_store import MODEL_FILE

if TYPE_CHECKING:
    from shelfwise.rerank.ranker.network import RankerNetwork


@dataclass(frozen=True, slots=True)
class Exported:
    network: RankerNetwork
    folder: Path


@pytest.fixture(scope="session", params=["cross-attention and history", "features head"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from shelfwise.rerank.ranker.onnx_export import export_network
    from tests.unit.rerank.ranker.random_candidates import network

    made = network(1) if request.param.startswith("cross") else network(0, history=0)
    folder = tmp_path_factory.mktemp("exported")
    export_network(made, folder / MODEL_FILE)
    return Exported(made, folder)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Applies `one_thread` to all tests of this folder."""
