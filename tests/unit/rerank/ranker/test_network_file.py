"""A network on disk: read as it was written, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from rerank.ranker.network import RankerNetwork, load_network, save_network
from retrieval.errors import ModelDamagedError, ModelMismatchError
from tests.unit.rerank.ranker.random_candidates import candidates, network, scored, shape


@pytest.mark.parametrize(("layers", "history"), [(0, 0), (1, 6)])
def test_it_comes_back_with_its_sizes_its_scale_and_its_scores(tmp_path: Path, layers: int, history: int) -> None:
    made, lists = network(layers, history=history), [candidates(9, events=2), candidates(2)]
    save_network(made, tmp_path / "weights")
    found = load_network(tmp_path / "weights")
    assert found.shape == made.shape
    assert not found.training
    for one, other in zip(scored(found, *lists), scored(made, *lists), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\x80\x04cos\nsystem\n."])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ModelDamagedError, match=r"weights cannot be read .*; train the ranker again"):
        load_network(tmp_path / "weights")
    with pytest.raises(ModelDamagedError, match="missing cannot be read"):
        load_network(tmp_path / "missing")


@pytest.mark.parametrize("metadata", [{}, {"shape": "{}"}, {"shape": "no JSON"}])
def test_a_file_without_sizes_is_damaged(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_file(dict(network(0).state_dict()), tmp_path / "weights", metadata)
    with pytest.raises(ModelDamagedError, match="cannot be read"):
        load_network(tmp_path / "weights")


def test_weights_of_other_sizes_are_foreign(tmp_path: Path) -> None:
    made = network(0)
    made.shape = shape(1)
    save_network(made, tmp_path / "weights")
    with pytest.raises(ModelMismatchError, match="holds weights of another network"):
        load_network(tmp_path / "weights")


def test_an_untrained_network_can_be_kept(tmp_path: Path) -> None:
    save_network(RankerNetwork(shape(1)), tmp_path / "weights")
    assert load_network(tmp_path / "weights").history is not None
