"""Texts that a rebuild encodes: all of them with another encoder, only new ones with the same encoder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

import shelfwise.indexer.embedding
from shelfwise.retrieval.encoders.registry import open_encoder, store_encoder
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.records import Product
from shelfwise.service.engine.engine import SearchEngine
from tests.conftest import ENCODER
from tests.unit.indexer.conftest import Encoded, Shop, replaced
from tests.unit.rerank.text_towers.tiny_towers import make_encoder

NAMES = ("drill", "saw") * 5
CATALOG = tuple(Product(f"p{place:02d}", f"{what} {place}", price=9.0) for place, what in enumerate(NAMES))


@pytest.fixture(scope="session")
def other_encoder(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = store_encoder(open_encoder(ENCODER, "onnx-int8", cache), tmp_path_factory.mktemp("encoders") / "other")
    spec = msgspec.json.decode((folder / "encoder.json").read_bytes())
    (folder / "encoder.json").write_bytes(msgspec.json.encode({**spec, "identity": "other", "name": "other"}))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("models") / "trained")


def test_previous_encoder_reuses_its_vectors(built: Shop, encoded: Encoded, other_encoder: Path) -> None:
    before = built.vectors
    there = built.rebuild(CATALOG, encoder=str(other_encoder))
    assert (there.version, there.published, there.encoded, len(encoded.texts)) == ("v000002", True, 10, 10)
    assert built.store.serving()[0].encoder == "other"
    encoded.texts.clear()
    back = built.rebuild(replaced(CATALOG, title="band saw"))
    assert (back.version, back.encoded, encoded.texts) == ("v000003", 1, ["band saw"])
    assert np.array_equal(built.vectors[1:], before[1:])


def test_encoder_folder_is_recognised_from_any_directory(
    fresh: Shop, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.parent)
    fresh.rebuild(CATALOG, encoder=trained.name)
    assert fresh.store.serving()[0].encoder_name == str(trained.resolve())


@pytest.mark.parametrize("runtimes", [("auto",), pytest.param(("auto", "onnx-fp32"), marks=pytest.mark.slow)])
def test_truncated_vectors_stay_truncated_in_later_rebuilds(
    fresh: Shop, trained: Path, runtimes: tuple[str, ...]
) -> None:
    fresh.rebuild(CATALOG, encoder=str(trained), dimension=16)
    assert fresh.vectors.shape == (10, 16)
    for place, runtime in enumerate(runtimes):
        fresh.rebuild(replaced(CATALOG, title=f"band saw {place}"), encoder="", runtime=runtime)
        assert fresh.store.serving()[0].dimension == 16
    with SearchEngine.open(fresh.root) as engine:
        assert engine.search("band saw").hits[0].product.id == "p00"


class TestInterruptedEncoding:
    @pytest.fixture(autouse=True)
    def _small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shelfwise.indexer.embedding, "CHUNK", 2)

    def test_checkpoints_are_not_shared_between_encoders(
        self, built: Shop, encoded: Encoded, other_encoder: Path
    ) -> None:
        encoded.most = 6
        with pytest.raises(EncoderError):
            built.rebuild(CATALOG, encoder=str(other_encoder))
        encoded.texts.clear()
        encoded.most = None
        assert built.rebuild(replaced(CATALOG, title="band saw")).encoded == 1
        assert encoded.texts == ["band saw"]
