"""Encoders exported once for all tests of this folder, with model weights from packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL


@pytest.fixture(scope="session")
def minilm_int8(cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "onnx-int8", cache)


@pytest.fixture(scope="session")
def minilm_fp32(cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "onnx-fp32", cache)


@pytest.fixture(scope="session")
def minilm_torch(cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "torch", cache)


@pytest.fixture(scope="session")
def e5_int8(cache: Path) -> Encoder:
    return open_encoder(DEFAULT_CHINESE_MODEL, "onnx-int8", cache)
