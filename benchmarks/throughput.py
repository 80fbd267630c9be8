"""How fast texts become terms and vectors, every runtime of the encoder beside the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.analysis import Analyzer
from retrieval.encoders import open_encoder

RUNTIMES = ("torch", "torch-bf16", "onnx-fp32", "onnx-int8")


@dataclass(frozen=True, slots=True)
class Throughput:
    """One runtime: products a second on all cores, milliseconds of one query, mean cosine with torch in float32."""

    runtime: str
    products_per_second: float
    query_p50: float
    query_p99: float
    cosine: float


def terms_per_second(titles: Sequence[str]) -> float:
    """Titles a second through the analysis of a new process's first pass, on one core (CPU time)."""
    analyzer = Analyzer()
    started = time.process_time()
    for title in titles:
        analyzer.terms(title)
    return len(titles) / (time.process_time() - started)


def measure_runtimes(model: str, texts: Sequence[str], cache: Path) -> list[Throughput]:
    """Each of `RUNTIMES` over the same product texts, in one process."""
    measured: list[Throughput] = []
    reference = np.empty((0, 0), dtype=np.float32)
    for runtime in RUNTIMES:
        encoder = open_encoder(model, runtime, cache)
        encoder.encode_products(texts[:64])
        started = time.perf_counter()
        vectors = encoder.encode_products(texts)
        rate = len(texts) / (time.perf_counter() - started)
        if not len(reference):
            reference = vectors
        spent = []
        for text in texts[:200]:
            began = time.perf_counter()
            encoder.encode_queries([" ".join(text.split()[:4])])
            spent.append((time.perf_counter() - began) * 1_000)
        p50, p99 = np.percentile(spent, [50, 99])
        cosine = float(np.einsum("ij,ij->i", vectors, reference).mean())
        measured.append(Throughput(runtime, rate, float(p50), float(p99), cosine))
    return measured
