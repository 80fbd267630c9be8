"""A tiny cross-encoder, exported once for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path

import filelock
import pytest

from shelfwise.rerank.teacher.teacher import Teacher, open_teacher
from tests.machine import shared_folder
from tests.unit.rerank.teacher.tiny_cross_encoder import make_cross_encoder

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Applies `one_thread` to all tests of this folder."""


@pytest.fixture(scope="session")
def teacher_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory, "teacher-cache")


@pytest.fixture(scope="session")
def tiny(teacher_cache: Path) -> Path:
    folder = teacher_cache / "tiny"
    with filelock.FileLock(teacher_cache / "tiny.lock"):
        if not folder.is_dir():
            make_cross_encoder(folder)
    return folder


def _opened(runtime: str, tiny: Path, cache: Path) -> Teacher:
    with filelock.FileLock(cache / "export.lock"):
        return open_teacher(str(tiny), runtime, cache)


@pytest.fixture(scope="session")
def torch_teacher(tiny: Path, teacher_cache: Path) -> Teacher:
    return _opened("torch", tiny, teacher_cache)


@pytest.fixture(scope="session")
def fp32_teacher(tiny: Path, teacher_cache: Path) -> Teacher:
    return _opened("onnx-fp32", tiny, teacher_cache)


@pytest.fixture(scope="session")
def int8_teacher(tiny: Path, teacher_cache: Path) -> Teacher:
    return _opened("onnx-int8", tiny, teacher_cache)


@pytest.fixture(params=["torch", "onnx-fp32", "onnx-int8"])
def teacher(request: pytest.FixtureRequest, tiny: Path, teacher_cache: Path) -> Teacher:
    return _opened(str(request.param), tiny, teacher_cache)
