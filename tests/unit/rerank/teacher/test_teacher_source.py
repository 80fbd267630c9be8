from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rerank.teacher.teacher import Teacher, open_teacher
from retrieval.errors import EncoderUnavailableError
from tests.unit.rerank.teacher.tiny_cross_encoder import changed_config, make_cross_encoder


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path / "classifier", outputs=3)
    with pytest.raises(EncoderUnavailableError, match=r"classifier with 3 outputs.*has 1"):
        open_teacher(str(folder), "torch", tmp_path)


def test_a_classifier_of_the_usual_two_outputs_is_refused(tmp_path: Path) -> None:
    folder = make_cross_encoder(tmp_path / "classifier", outputs=2)
    with pytest.raises(EncoderUnavailableError, match="classifier with 2 outputs"):
        open_teacher(str(folder), "torch", tmp_path)


def test_an_encoder_is_refused(copy: Path, tmp_path: Path) -> None:
    changed_config(copy, architectures=["BertModel"])
    (copy / "modules.json").write_text("[]")
    with pytest.raises(EncoderUnavailableError, match=r"names BertModel.*looks like an encoder.*name a cross-encoder"):
        open_teacher(str(copy), "torch", tmp_path)


class _Trap:
    """Runs code when it is unpickled."""

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
    with pytest.raises(EncoderUnavailableError, match=r"no cross-encoder \(no config.json\)"):
        open_teacher(str(tmp_path), "torch", tmp_path)


def test_without_the_hub_the_error_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(
        EncoderUnavailableError, match=r"'cross-encoder/none' was not found.*hub did not.*name a folder"
    ):
        open_teacher("cross-encoder/none", "torch", tmp_path)
    assert list((tmp_path / "cross-encoders").iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "teacher.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_export_is_refused_by_the_file(
    tiny: Path, teacher_cache: Path, int8_teacher: Teacher, tmp_path: Path, name: str, damage: str
) -> None:
    folder = Path(shutil.copytree(teacher_cache / "teachers", tmp_path / "teachers")) / _export_of(tmp_path)
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=rf"{name}.*remove the folder"):
        open_teacher(str(tiny), "onnx-int8", tmp_path)


def test_an_export_of_another_format_is_refused(
    tiny: Path, teacher_cache: Path, int8_teacher: Teacher, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(teacher_cache / "teachers", tmp_path / "teachers")) / _export_of(tmp_path)
    spec = folder / "teacher.json"
    spec.write_text(spec.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(EncoderUnavailableError, match=r"format 99, this program reads 1.*remove the folder"):
        open_teacher(str(tiny), "onnx-int8", tmp_path)


def test_a_graph_that_is_no_cross_encoder_is_refused(
    tiny: Path, teacher_cache: Path, int8_teacher: Teacher, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(teacher_cache / "teachers", tmp_path / "teachers")) / _export_of(tmp_path)
    _write_other_graph(folder / "model.onnx")
    with pytest.raises(EncoderUnavailableError, match=r"takes pixels.*a teacher takes input_ids and token_type_ids"):
        open_teacher(str(tiny), "onnx-int8", tmp_path)


def _export_of(cache: Path) -> str:
    return next(path.name for path in (cache / "teachers").iterdir() if "-onnx-int8-128-" in path.name)


def _write_other_graph(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [None, 3])
    out = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["scores"])], "other", [pixels], [out])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
