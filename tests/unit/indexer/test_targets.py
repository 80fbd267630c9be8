"""The vector index that a rebuild chooses within the memory."""

from __future__ import annotations

import pytest

from shelfwise.indexer.targets import choose_index
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.index.faiss import VectorIndexKind, vector_bytes
from shelfwise.retrieval.value_texts import size_text


@pytest.mark.parametrize(
    ("count", "memory", "before", "kind"),
    [
        (50_000, 10**9, "", VectorIndexKind.EXACT),
        (50_000, 10**9, "quantised", VectorIndexKind.EXACT),
        (50_000, None, "exact", VectorIndexKind.EXACT),
        (50_000, 6 * 10**7, "exact", VectorIndexKind.QUANTISED),
        (50_000, 6 * 10**7, "quantised", VectorIndexKind.QUANTISED),
        (50_001, None, "exact", VectorIndexKind.QUANTISED),
    ],
)
def test_memory_and_size_decide_the_index_and_a_change_gives_a_notice(
    count: int, memory: int | None, before: str, kind: VectorIndexKind
) -> None:
    chosen, reason = choose_index(count, 384, memory, before)
    assert chosen is kind
    assert reason.endswith(f"; it was {before} before") is (before not in ("", kind))


def test_too_little_memory_is_refused_with_the_memory_that_would_do() -> None:
    needed = 2 * 150_000 * vector_bytes(VectorIndexKind.QUANTISED, 384)
    message = rf"--memory 1.0 MB cannot be met: 150,000 vectors of 384 columns need {size_text(needed)}"
    with pytest.raises(SettingError, match=message):
        choose_index(150_000, 384, 1_000_000)
    assert choose_index(150_000, 384, needed)[0] is VectorIndexKind.QUANTISED
