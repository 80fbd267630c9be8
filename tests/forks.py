"""Processes that tests start and kill, forked from one that has imported what they need.

A test run has one such server in each of its processes, which imports what it is told before its first fork and never
again: so whichever test comes first, it is told the same.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_IMPORTED = (
    "onnx",
    "retrieval.encoders.onnx",
    "retrieval.events.sqlite",
    "tests.integration.test_kill",
    "tests.integration.test_ranker_kill",
    "tests.integration.test_rules_kill",
    "zstandard",
)


def fork_context() -> ForkServerContext:
    """Where processes that are to be killed come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context
