"""Cross-encoders as teachers: scores, and models that are refused."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from shelfwise.rerank.teacher import Teacher, open_teacher
from shelfwise.retrieval.errors import EncoderUnavailableError
from tests.unit.rerank.tiny_cross_encoder import changed_config, make_cross_encoder, pairs_of

pytestmark = pytest.mark.usefixtures("one_thread")

HOSTILE = ["", " ", "\x00", "\ud800", "🤷" * 500, "a" * 1_000_000, "\u202e\u0301", "[CLS] [SEP] [PAD]", "!" * 50]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> Teacher:
    return open_teacher(str(tiny), tiny.parent)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def test_scores_are_the_logits_of_sentence_transformers(teacher: Teacher, tiny: Path) -> None:
    queries, texts = pairs_of(60)
    model = CrossEncoder(str(tiny), device="cpu")
    pairs = list(zip(queries, texts, strict=True))
    expected = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    assert np.allclose(teacher.score(queries, texts), expected, atol=1e-4)


def test_hostile_texts_have_scores(teacher: Teacher) -> None:
    queries = [query for query in HOSTILE for _ in HOSTILE]
    scores = teacher.score(queries, HOSTILE * len(HOSTILE))
    assert scores.shape == (len(HOSTILE) ** 2,)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_a_query_of_ten_thousand_words_leaves_room_for_the_text(teacher: Teacher) -> None:
    query = "cordless " * 10_000
    drill, lamp = teacher.score([query, query], ["steel drill", "garden lamp"])
    assert drill != lamp
    assert np.isfinite([drill, lamp]).all()


def test_each_length_has_its_own_identity(tiny: Path, tmp_path: Path) -> None:
    assert len({open_teacher(str(tiny), tmp_path, length).identity for length in (32, 48)}) == 2


@pytest.mark.parametrize("outputs", [2, 3], ids=["the usual two outputs", "three outputs"])
def test_a_classifier_is_refused(tmp_path: Path, outputs: int) -> None:
    folder = make_cross_encoder(tmp_path / "classifier", outputs=outputs)
    with pytest.raises(EncoderUnavailableError, match=rf"classifier with {outputs} outputs.*has 1"):
        open_teacher(str(folder), tmp_path)


def test_an_encoder_is_refused(copy: Path, tmp_path: Path) -> None:
    changed_config(copy, architectures=["BertModel"])
    weights: dict[str, torch.Tensor] = load_file(copy / "model.safetensors")
    body = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    save_file(body, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        EncoderUnavailableError, match=r"lacks .* \(classifier\..*it is an encoder.*use a cross-encoder"
    ):
        open_teacher(str(copy), tmp_path)


class _Trap:
    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._witness,)  # type: ignore[return-value]


def test_pickled_weights_are_refused_and_not_read(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(witness)))
    with pytest.raises(
        EncoderUnavailableError, match="cannot be loaded as a cross-encoder with weights as safetensors"
    ):
        open_teacher(str(copy), tmp_path)
    assert not witness.exists()


def test_code_in_the_folder_is_not_run(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (copy / "own_code.py").write_text(f"open({str(witness)!r}, 'w').close()\nclass Own: pass\n")
    (copy / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "own_code.Own"}]')
    (copy / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    changed_config(copy, auto_map={"AutoModelForSequenceClassification": "own_code.Own"})
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        open_teacher(str(copy), tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_short_file_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=r"cannot be loaded.*fetch it again"):
        open_teacher(str(copy), tmp_path)


def test_offline_error_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderUnavailableError, match=r"'cross-encoder/none' was not found.*the model hub.*name it: --teacher teacher"
    ):
        open_teacher("cross-encoder/none", tmp_path)
    assert not (tmp_path / "cross-encoders").exists()
