"""Tests: unit, contract and integration tests, real servers and browsers for them, and their shared helpers."""

from __future__ import annotations

import os
import sys

# With more processes than cores, more threads per process would wait for each other. BLAS reads this when it loads.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# Python writes no bytecode if this variable is set, and uv installs none: each of hundreds of processes would compile
# torch and all other modules again.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False
