"""The encoder and the vector index of a rebuild, chosen within a budget of time and memory.

Before texts are encoded, the encoder is timed on a sample of them, and an approximate index on random vectors. Other
phases are estimated from the seconds per product of this machine's last build, which `RATES_FILE` stores.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from shelfwise.indexer.static_encoder import MOST_PRODUCTS, STATIC
from shelfwise.retrieval.encoders.base import Encoder, TableEncoder, as_token_encoder, unit_rows
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.html_report import seconds_text, size_text
from shelfwise.retrieval.index.faiss import EXACT_BELOW, VectorIndexKind, build_index, choose_kind, vector_bytes
from shelfwise.retrieval.index.vectors import create_vectors
from shelfwise.retrieval.memory import usable_memory
from shelfwise.retrieval.store.files import write_durably

SAMPLE = 256
"""The most texts on which an encoder is timed."""
_TIMED_AT_ONCE, _TIMED_SECONDS = 64, 2.0
"""The number of texts that are encoded at a time, and the seconds after which timing stops."""
FEWEST = 5_000
"""The fewest products for which a rebuild is estimated without a budget, and for which its phases are remembered."""
RATES_FILE = "rebuild_rates.json"
_OF_READING = {"index": 3.0, "report": 0.4, "types": 1.2, "publish": 0.4}
"""The time of each phase relative to reading the feed, until this machine's times are known."""
_TEACHER_TEXTS, _TEACHER_PIECES = 1.75, 10_000
"""The time of a distillation in texts of its teacher: this many for each product of its sample, plus this many for the
pieces of the vocabulary."""
_FASTER = 100
"""Least ratio of the speed at which a table encodes to that of its teacher."""
_TIMED_VECTORS = 4_096
_MUCH_SHARE, _MUCH_SECONDS = 0.5, 60.0
"""A static encoder is suggested if it saves this share of the time and this many seconds."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a rebuild; None means no limit."""

    seconds: float | None = None
    """The time from the start of the rebuild to its end."""
    memory: int | None = None
    """The memory of the machine or container that serves, in bytes; half of it is for the vector index."""


NO_LIMITS = Budget()


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated work and time of a rebuild."""

    texts: int
    """The number of texts to encode."""
    encoder: str
    """The encoder's name and speed."""
    seconds: float
    """The seconds of the whole rebuild with this encoder."""
    distilled: float
    """The seconds with a table distilled from it; infinite if the encoder is a table."""


def time_encoder(encoder: Encoder, texts: Sequence[str], *, states: bool) -> float:
    """The seconds per text of an encoder, measured on these texts; `states` says whether it also needs token states."""
    token_encoder = as_token_encoder(encoder) if states and not isinstance(encoder, TableEncoder) else None
    encode = token_encoder.encode_products_with_tokens if token_encoder else encoder.encode_products
    encode(texts[:16])  # the first run allocates
    started, done = time.perf_counter(), 0
    while done < len(texts) and (not done or time.perf_counter() - started < _TIMED_SECONDS):
        encode(texts[done : done + _TIMED_AT_ONCE])
        done = min(done + _TIMED_AT_ONCE, len(texts))
    return (time.perf_counter() - started) / done


def time_index(kind: VectorIndexKind, count: int, dimension: int) -> float:
    """The seconds to build an index of this kind for `count` vectors, measured with a few random ones."""
    if kind is VectorIndexKind.EXACT:
        return 0.0
    with tempfile.TemporaryDirectory(prefix="shelfwise-") as folder:
        random = np.random.default_rng(0).standard_normal((_TIMED_VECTORS, dimension), np.float32)
        create_vectors(Path(folder), _TIMED_VECTORS, dimension)[:] = unit_rows(random)
        started = time.perf_counter()
        build_index(Path(folder), kind)
        seconds = time.perf_counter() - started
    return seconds * count / _TIMED_VECTORS


def phases_left(cache: Path, done: Mapping[str, float], products: int) -> float:
    """The seconds of the phases that are not `done` yet, except encoding, from their rates on this machine."""
    try:
        rates = msgspec.json.decode((cache / RATES_FILE).read_bytes(), type=dict[str, float])
    except (OSError, msgspec.MsgspecError):
        rates = {phase: share * done["read"] / products for phase, share in _OF_READING.items()}
    return products * sum(rate for phase, rate in rates.items() if phase not in done)


def remember_phases(cache: Path, done: Mapping[str, float], products: int) -> None:
    """Stores the seconds per product of the phases of a complete build, if the cache can be written."""
    rates = {phase: done[phase] / products for phase in _OF_READING}
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        write_durably(cache / RATES_FILE, msgspec.json.encode(rates))


def estimate(texts: int, name: str, text_seconds: float, others: float, *, is_table: bool) -> Estimate:
    """The estimate for `texts`, from an encoder's seconds per text and the seconds of all `others`."""
    teacher_texts = _TEACHER_TEXTS * min(texts, MOST_PRODUCTS) + _TEACHER_PIECES
    distilled = math.inf if is_table else others + text_seconds * (teacher_texts + texts / _FASTER)
    encoder = f"{name}, {1 / text_seconds:,.0f} texts a second"
    return Estimate(texts, encoder, others + texts * text_seconds, distilled)


def choose_index(count: int, dimension: int, memory: int | None, before: str = "") -> tuple[VectorIndexKind, str]:
    """The kind of index for `count` vectors and the reason, by `memory` or else the machine's; the reason mentions a
    different kind `before`.

    Raises SettingError for memory that is too small for any kind, with the memory that would suffice.
    """
    there = usable_memory() if memory is None else memory
    kind = choose_kind(count, dimension, there)
    size = count * vector_bytes(kind, dimension)
    if kind is VectorIndexKind.EXACT:
        reason = f"{size_text(size)}; a full scan is fast up to {EXACT_BELOW:,} products"
    else:
        reason = f"{size_text(size)}, of {size_text(there)} of memory"
    if memory is not None and 2 * size > memory:
        raise SettingError(
            f"--memory {size_text(memory)} cannot be met: {count:,} vectors of {dimension} columns need "
            f"{size_text(2 * size)}, half of it for their index; allow that much, or cut the vectors with --dimension"
        )
    return kind, f"{reason}; it was {before} before" if before not in ("", kind) else reason


def choose_static(made: Estimate, limit: float | None, *, is_static: bool, is_free: bool) -> tuple[bool, str]:
    """Whether to distil the encoder to a table, and the reason with the expected seconds.

    `is_static` says that it was requested, `is_free` that the encoder may be chosen: none was named, and no version has
    one. Raises SettingError if the rebuild takes longer than `limit`, with the time that can be met.
    """
    seconds = made.distilled if is_static else made.seconds
    about = f"about {seconds_text(seconds)} in all ({made.texts:,} texts by {made.encoder})"
    static = f"about {seconds_text(made.distilled)} with --encoder {STATIC}"
    if limit is None or seconds <= limit:
        saved = seconds - made.distilled
        is_much = limit is None and is_free and saved > max(_MUCH_SECONDS, _MUCH_SHARE * seconds)
        return is_static, f"{about}; {static}" if is_much else about
    if is_free and made.distilled <= limit:
        return True, f"{static}; without, {about}, more than the budget"
    cures = [f"a budget of {seconds_text(math.ceil(seconds))}"]
    if made.distilled < seconds:
        cures.append(static if is_free else f"{static}, which replaces the encoder")
    raise SettingError(f"--budget {seconds_text(limit)} cannot be met: {about}; what can be: {', or '.join(cures)}")
