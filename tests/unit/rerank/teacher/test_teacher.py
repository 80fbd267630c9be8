"""Teachers on torch and on ONNX Runtime, and their lookup by name or folder."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder

from shelfwise.rerank.teacher.cross_encoder import check_obtainable
from shelfwise.rerank.teacher.teacher import Teacher, open_teacher
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError
from tests.unit.rerank.teacher.tiny_cross_encoder import changed_config, make_cross_encoder, pairs_of

HOSTILE = ["", " ", "\x00", "\ud800", "🤷" * 500, "a" * 1_000_000, "\u202e\u0301", "[CLS] [SEP] [PAD]", "!" * 50]


def test_torch_scores_are_the_logits_of_sentence_transformers(torch_teacher: Teacher, tiny: Path) -> None:
    queries, texts = pairs_of(60)
    model = CrossEncoder(str(tiny), device="cpu")
    pairs = list(zip(queries, texts, strict=True))
    expected = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    assert np.allclose(torch_teacher.score(queries, texts), expected, atol=1e-4)


def test_onnx_float32_scores_equal_torch(torch_teacher: Teacher, fp32_teacher: Teacher) -> None:
    queries, texts = pairs_of(300)
    assert np.allclose(torch_teacher.score(queries, texts), fp32_teacher.score(queries, texts), atol=1e-4)


def test_int8_scores_are_close_with_mostly_the_same_order(torch_teacher: Teacher, int8_teacher: Teacher) -> None:
    queries, texts = pairs_of(300)
    exact, rounded = torch_teacher.score(queries, texts), int8_teacher.score(queries, texts)
    assert np.abs(exact - rounded).mean() < 0.1 * exact.std()
    assert spearmanr(exact, rounded).statistic > 0.98


def test_int8_scores_do_not_depend_on_the_batch(int8_teacher: Teacher) -> None:
    queries, texts = pairs_of(60)
    together = int8_teacher.score(queries, texts)
    alone = [int8_teacher.score([query], [text])[0] for query, text in zip(queries, texts, strict=True)]
    assert np.allclose(together, alone, atol=1e-5)


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


def test_unequal_numbers_of_queries_and_texts_are_refused(teacher: Teacher) -> None:
    with pytest.raises(ValueError, match="2 queries cannot be paired with 1 texts"):
        teacher.score(["a", "b"], ["c"])


def test_each_runtime_and_length_has_its_own_identity(tiny: Path, teacher_cache: Path, int8_teacher: Teacher) -> None:
    names = {open_teacher(str(tiny), "torch", teacher_cache, max_length=length).identity for length in (32, 48)}
    assert len(names | {int8_teacher.identity}) == 3


def test_exported_folder_is_self_contained(int8_teacher: Teacher, teacher_cache: Path) -> None:
    (folder,) = (path for path in (teacher_cache / "teachers").iterdir() if "-onnx-int8-" in path.name)
    again = open_teacher(str(folder))
    assert again.identity == int8_teacher.identity
    with pytest.raises(SettingError, match="exported for runtime onnx-int8, not torch"):
        open_teacher(str(folder), "torch")


def test_a_runtime_that_does_not_exist_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="runtime 'tensorrt' does not exist"):
        open_teacher(str(tiny), "tensorrt", tmp_path)


def test_a_length_without_room_for_two_texts_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot read pairs of 4 tokens; use 16 or more"):
        open_teacher(str(tiny), "torch", tmp_path, max_length=4)


def test_scoring_through_onnx_imports_no_torch(int8_teacher: Teacher, tiny: Path, teacher_cache: Path) -> None:
    program = (
        "import sys, pathlib; from shelfwise.rerank.teacher.teacher import open_teacher;"
        f"open_teacher({str(tiny)!r}, 'onnx-int8', pathlib.Path({str(teacher_cache)!r})).score(['a'], ['b']);"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'onnx') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.mark.parametrize("outputs", [2, 3], ids=["the usual two outputs", "three outputs"])
def test_a_classifier_is_refused(tmp_path: Path, outputs: int) -> None:
    folder = make_cross_encoder(tmp_path / "classifier", outputs=outputs)
    with pytest.raises(EncoderUnavailableError, match=rf"classifier with {outputs} outputs.*has 1"):
        open_teacher(str(folder), "torch", tmp_path)


def test_an_encoder_is_refused(copy: Path, tmp_path: Path) -> None:
    changed_config(copy, architectures=["BertModel"])
    (copy / "modules.json").write_text("[]")
    with pytest.raises(EncoderUnavailableError, match=r"names BertModel.*looks like an encoder.*use a cross-encoder"):
        open_teacher(str(copy), "torch", tmp_path)


class _Trap:
    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._witness,)  # type: ignore[return-value]


def test_pickled_weights_are_refused_and_not_read(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (copy / "model.safetensors").unlink()
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(_Trap(witness)))
    with pytest.raises(EncoderUnavailableError, match=r"as safetensors; there is only pytorch_model.bin, a pickle"):
        open_teacher(str(copy), "torch", tmp_path)
    assert not witness.exists()


def test_code_in_the_folder_is_not_run(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (copy / "own_code.py").write_text(f"open({str(witness)!r}, 'w').close()\nclass Own: pass\n")
    (copy / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "own_code.Own"}]')
    (copy / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    changed_config(copy, auto_map={"AutoModelForSequenceClassification": "own_code.Own"})
    with pytest.raises(EncoderUnavailableError, match="cannot be loaded"):
        open_teacher(str(copy), "torch", tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_short_file_is_refused(copy: Path, tmp_path: Path, name: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=r"cannot be (loaded|read).*fetch (it|the model) again"):
        open_teacher(str(copy), "torch", tmp_path)


def test_weights_without_the_last_layer_are_refused(copy: Path, tmp_path: Path) -> None:
    weights: dict[str, torch.Tensor] = load_file(copy / "model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderUnavailableError, match=r"lacks weights of its last layers \(classifier.weight\)"):
        open_teacher(str(copy), "torch", tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"not a cross-encoder \(no config.json\)"):
        open_teacher(str(tmp_path), "torch", tmp_path)


def test_offline_error_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderUnavailableError, match=r"'cross-encoder/none' was not found.*the model hub.*name it: --teacher teacher"
    ):
        open_teacher("cross-encoder/none", "torch", tmp_path)
    assert not (tmp_path / "cross-encoders").exists()


def test_unreachable_hub_is_noticed_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://nowhere.invalid")
    monkeypatch.setattr("shelfwise.retrieval.encoders.weights.getproxies", dict)
    with pytest.raises(EncoderUnavailableError, match=r"nowhere\.invalid cannot be reached .*--teacher teacher"):
        check_obtainable("cross-encoder/none", tmp_path)
    check_obtainable(str(tmp_path), tmp_path)


@pytest.fixture
def export(teacher_cache: Path, int8_teacher: Teacher, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(teacher_cache / "teachers", tmp_path / "teachers"))
    return next(path for path in folder.iterdir() if "-onnx-int8-128-" in path.name)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "teacher.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damaged_export_error_names_the_file(tiny: Path, export: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = export / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=rf"{name}.*remove the folder"):
        open_teacher(str(tiny), "onnx-int8", tmp_path)


def test_an_export_of_another_format_is_refused(tiny: Path, export: Path, tmp_path: Path) -> None:
    spec = export / "teacher.json"
    spec.write_text(spec.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(EncoderUnavailableError, match=r"format 99, but this program reads 1.*remove the folder"):
        open_teacher(str(tiny), "onnx-int8", tmp_path)
