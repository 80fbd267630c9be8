"""Graphs on ONNX Runtime as everything here runs them: on one CPU thread, and in int8 with exact sums."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import onnxruntime as ort


def open_graph(path: Path, *, without: Sequence[str] = ()) -> ort.InferenceSession:
    """A stored graph, run by the calling thread alone; `without` names optimizers of ONNX Runtime to leave out.

    Raises what ONNX Runtime raises of a missing or damaged file: its exceptions have no common base but Exception.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not _has_vnni():
        # There, sums of uint8 x int8 products would saturate at 16 bits; this mode is exact, at half the speed.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without))


@cache
def _has_vnni() -> bool:
    """Whether the processor adds products of 8-bit numbers in 32 bits (AVX512-VNNI or AVX-VNNI on x86)."""
    try:
        described = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False
    return "avx512_vnni" in described or "avx_vnni" in described
