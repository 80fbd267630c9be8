"""Indexes that tests rebuild with a real encoder."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shelfwise.indexer.build import RebuildOptions, RebuildReport, rebuild
from shelfwise.retrieval.encoders.base import Tokens
from shelfwise.retrieval.encoders.onnx import OnnxEncoder
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.index.token_states import STATES_FILES
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.manifest import STATES_FOLDER, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.changes import Change
from shelfwise.retrieval.updates.journal import Journal
from tests.catalogs import write_feed
from tests.conftest import ENCODER


@dataclasses.dataclass
class Shop:
    root: Path
    cache: Path

    def rebuild(
        self,
        feed: Sequence[Product] | Path,
        *more: Path,
        progress: NullProgress | None = None,
        **options: Any,  # noqa: ANN401
    ) -> RebuildReport:
        path = feed if isinstance(feed, Path) else write_feed(self.root.with_name(f"{self.root.name}.jsonl"), feed)
        chosen = {"encoder": ENCODER, "runtime": "onnx-int8", "workers": 1, **options}
        return rebuild(self.root, RebuildOptions(tuple(map(str, (path, *more))), self.cache, **chosen), progress)

    def change(self, *changes: Change) -> None:
        with Journal(self.root) as journal:
            journal.append(changes, above=self.store.serving()[0].last_merged_change)

    def copy(self, root: Path) -> Shop:
        return Shop(Path(shutil.copytree(self.root, root)), self.cache)

    @property
    def store(self) -> Store:
        return Store(self.root)

    @property
    def folder(self) -> Path:
        return self.store.version_folder(self.store.current())

    @property
    def products(self) -> list[Product]:
        store = ProductStore(self.folder)
        return [store[row] for row in range(len(store))]

    @property
    def vectors(self) -> NDArray[np.float32]:
        return np.array(np.load(self.folder / VECTORS_FOLDER / VECTORS_FILE))

    @property
    def states(self) -> list[bytes]:
        return [(self.folder / STATES_FOLDER / name).read_bytes() for name in STATES_FILES]


@pytest.fixture
def fresh(cache: Path, tmp_path: Path) -> Shop:
    """A shop with no published version."""
    return Shop(tmp_path / "index", cache)


@pytest.fixture(scope="module")
def first(request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("first") / "index", cache)
    shop.rebuild(request.module.CATALOG)
    return shop


@pytest.fixture
def built(first: Shop, tmp_path: Path) -> Shop:
    return first.copy(tmp_path / "built")


@dataclasses.dataclass
class Encoded:
    """The encoded texts; with `most`, the encoder fails before it encodes more."""

    texts: list[str] = dataclasses.field(default_factory=list)
    most: int | None = None


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Encoded:
    seen, encode = Encoded(), OnnxEncoder.encode_products_with_tokens

    def counting(
        encoder: OnnxEncoder, texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> tuple[NDArray[np.float32], list[Tokens]]:
        if seen.most is not None and len(seen.texts) + len(texts) > seen.most:
            raise EncoderError("the device is gone")
        seen.texts += texts
        return encode(encoder, texts, progress)

    monkeypatch.setattr(OnnxEncoder, "encode_products_with_tokens", counting)
    return seen


def replaced(products: Sequence[Product], row: int = 0, **values: object) -> list[Product]:
    changed = dataclasses.replace(products[row], **values)  # type: ignore[arg-type]
    return [*products[:row], changed, *products[row + 1 :]]


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
