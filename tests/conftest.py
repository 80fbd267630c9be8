"""Settings for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from indexer.build import RebuildOptions, rebuild
from service.demo import DemoFiles, write_demo_store
from service.engine import SearchEngine

# Every machine draws the same examples: what fails in CI fails at home.
settings.register_profile(
    "shelfwise",
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("shelfwise")

# No model hub is asked by a test, also when pytest is called without make.
os.environ["HF_HUB_OFFLINE"] = "1"

ENCODER = "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config) -> Path:
    """Where exported encoders are kept from run to run: making one takes longer than most tests."""
    cache = pytestconfig.cache
    assert cache is not None
    return Path(cache.mkdir("shelfwise"))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """A demo store of 600 products."""
    return write_demo_store(tmp_path_factory.mktemp("demo"), products=600, sessions=0)


@pytest.fixture(scope="session")
def demo_index(demo: DemoFiles, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo store's index; a test that changes it copies it first."""
    index = tmp_path_factory.mktemp("index")
    rebuild(index, RebuildOptions((str(demo.products),), cache, encoder=ENCODER, synonyms=demo.synonyms))
    return index


@pytest.fixture(scope="session")
def engine(demo_index: Path) -> Iterator[SearchEngine]:
    """The demo store, opened."""
    with SearchEngine.open(demo_index) as opened:
        yield opened
