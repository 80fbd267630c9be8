"""What the tests of training towers share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def small_heap() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()
