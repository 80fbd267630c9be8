"""The service imports no package of training."""

from __future__ import annotations

import subprocess
import sys


def test_service_imports_no_training_packages() -> None:
    program = "import sys, shelfwise.service.app; sys.exit(not {'scipy.stats', 'sklearn'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
