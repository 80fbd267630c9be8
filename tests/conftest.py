"""Settings for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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

REAL_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    """The folder of real catalogs; the test is skipped where it is not there."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real catalogs are not at {REAL_DATA}")
    return REAL_DATA
