"""A service bounds what glibc keeps for threads that are gone, unless somebody has said how."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from service.cli.serve import limit_malloc_arenas


def test_what_the_environment_says_stands() -> None:
    assert not limit_malloc_arenas({"MALLOC_ARENA_MAX": "4"})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no arenas to bound")
def test_with_glibc_it_is_done() -> None:
    # In a process of its own: it holds for all that follows.
    program = "from service.cli.serve import limit_malloc_arenas; assert limit_malloc_arenas({})"
    subprocess.run([sys.executable, "-c", program], check=True)
