"""What the tests of training towers share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def small_heap() -> Iterator[None]:
    """What is loaded by now is left out of garbage collections: the trainer asks for one after each of its runs, which
    takes longer than the run."""
    gc.freeze()
    yield
    gc.unfreeze()
