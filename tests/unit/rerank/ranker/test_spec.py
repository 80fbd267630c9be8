"""The ranker's folder, and its permitted model files."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from shelfwise.rerank.graph_checks import ONNX_FIELDS, check_graph, check_weights
from shelfwise.rerank.model_card import CARD_FILE
from shelfwise.rerank.model_store import MODEL_FILE, REPORT_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker import spec as spec_module
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.rerank.ranker.spec import SPEC_FILE, RankerSpec, misfit, read_report, verify_ranker, write_ranker
from shelfwise.retrieval.encoders.onnx_export import quantise_graph
from shelfwise.retrieval.errors import InputError, ModelDamagedError, ModelMismatchError
from shelfwise.retrieval.store.files import SEAL_FILE, seal_folder
from tests.rankers import ENCODING, REPORT, SPEC, building, linear_graph, rewrite

FILES = (MODEL_FILE, WEIGHTS_FILE, SPEC_FILE, REPORT_FILE)
CURE = "shelfwise (models rollback|train ranker)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    building()(tmp_path)
    write_ranker(tmp_path, SPEC, REPORT)
    return tmp_path


def test_spec_round_trips(folder: Path) -> None:
    result = verify_ranker(folder)
    assert msgspec.structs.replace(result, identity="") == SPEC
    assert result.identity.startswith("ranker-")
    assert read_report(folder) == REPORT
    assert {path.name for path in folder.iterdir()} == {*FILES, CARD_FILE, SEAL_FILE}


def test_identity_covers_everything_that_affects_scores(tmp_path: Path) -> None:
    def identity(spec: RankerSpec, seed: int = 0) -> str:
        building(seed)(tmp_path)
        return write_ranker(tmp_path, spec, REPORT).identity

    usual = identity(SPEC)
    result = {"trained_on": {"seed": 8}, "parent": "ranker-1", "identity": "x", "neutral": (0.5,) * len(FEATURES)}
    assert identity(msgspec.structs.replace(SPEC, **result)) == usual
    assert identity(msgspec.structs.replace(SPEC, mix=0.6)) != usual
    assert identity(SPEC, seed=1) != usual


def rewrite_seal(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    seal = msgspec.json.decode((folder / SEAL_FILE).read_bytes())
    (folder / SEAL_FILE).write_bytes(msgspec.json.encode(change(seal)))


class TestWriting:
    @pytest.mark.parametrize(
        "values",
        [
            {"mix": float("nan")},
            {"calibration": (1.0, float("inf"))},
            {"layers": -1},
            {"features": ()},
            {"features": ("merged", "merged")},
            {"neutral": (1.0,)},
            {"neutral": (*[0.0] * (len(FEATURES) - 1), float("nan"))},
        ],
    )
    def test_invalid_values_are_refused(self, tmp_path: Path, values: dict[str, object]) -> None:
        building()(tmp_path)
        with pytest.raises(InputError, match="spec is not valid"):
            write_ranker(tmp_path, msgspec.structs.replace(SPEC, **values), REPORT)

    def test_a_graph_that_disagrees_with_the_spec_is_refused(self, tmp_path: Path) -> None:
        building(graph=linear_graph(features=9))(tmp_path)
        with pytest.raises(ModelDamagedError, match=f"expects features of 9 columns, but its spec has {len(FEATURES)}"):
            write_ranker(tmp_path, SPEC, REPORT)

    def test_second_graph_is_checked_too(self, tmp_path: Path) -> None:
        building()(tmp_path)
        graph = linear_graph()
        graph.graph.node.append(helper.make_node("PyOp", ["scores"], ["more"], domain="ai.onnx.contrib"))
        (tmp_path / "query_encoder.onnx").write_bytes(graph.SerializeToString())
        with pytest.raises(ModelMismatchError, match=r"query_encoder\.onnx needs the operator 'PyOp'"):
            write_ranker(tmp_path, SPEC, REPORT)


class TestDamage:
    @pytest.mark.parametrize("name", [*FILES, SEAL_FILE])
    @pytest.mark.parametrize(
        "damage",
        [
            Path.unlink,
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes().replace(b"e", b"f", 1)),
            lambda path: (path.unlink(), path.mkdir()),
            lambda path: (path.rename(path.with_name("other")), path.symlink_to("other")),
        ],
        ids=["missing", "empty", "short", "changed", "folder", "link"],
    )
    def test_changed_file_is_damaged(self, folder: Path, name: str, damage: Callable[[Path], object]) -> None:
        before = (folder / name).read_bytes()
        damage(folder / name)
        if name == SEAL_FILE and (folder / name).is_file() and (folder / name).read_bytes() == before:
            return  # a link to the same seal has valid checksums
        with pytest.raises(ModelDamagedError, match=CURE) as result:
            verify_ranker(folder), read_report(folder)
        assert str(folder) in str(result.value)

    @pytest.mark.parametrize("name", [SPEC_FILE, REPORT_FILE])
    @pytest.mark.parametrize(
        "content", [b"", b"{", b"null", b"\xff\xfe", b'{"format": "1", "created": 1}', b"[" * 100_000]
    )
    def test_sealed_json_that_is_not_a_ranker_is_refused(self, folder: Path, name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        seal_folder(folder, {})
        with pytest.raises(ModelDamagedError, match=f"{name} cannot be read .*{CURE}"):
            verify_ranker(folder), read_report(folder)

    @pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/etc/passwd", "a/b"])
    def test_seal_covers_only_files_of_its_folder(self, folder: Path, name: str) -> None:
        rewrite_seal(folder, lambda seal: seal | {name: seal[MODEL_FILE]})
        with pytest.raises(ModelDamagedError, match=r"seal\.json seals .* but must seal"):
            verify_ranker(folder)

    def test_seal_without_a_required_file_is_refused(self, folder: Path) -> None:
        (folder / REPORT_FILE).unlink()
        seal_folder(folder, {})
        with pytest.raises(ModelDamagedError, match=r"but must seal model\.onnx, .*report\.json"):
            verify_ranker(folder)

    def test_oversized_file_or_seal_is_refused_unread(self, folder: Path) -> None:
        too_long = {"bytes": spec_module.MAX_FILE_BYTES + 1}
        rewrite_seal(folder, lambda seal: seal | {MODEL_FILE: seal[MODEL_FILE] | too_long})
        with pytest.raises(ModelMismatchError, match=r"model\.onnx has 268,435,457 bytes; .* at most 268,435,456"):
            verify_ranker(folder)
        (folder / SEAL_FILE).write_bytes(b" " * (spec_module.MAX_JSON_BYTES + 1))
        with pytest.raises(ModelDamagedError, match=r"seal\.json has more than 4,194,304 bytes"):
            verify_ranker(folder)


class TestOtherFormats:
    @pytest.mark.parametrize(("made", "age"), [(0, "an older"), (2, "a newer")])
    def test_other_format_is_refused_as_older_or_newer(self, folder: Path, made: int, age: str) -> None:
        rewrite(folder / SPEC_FILE, format=made, precision="fp4")
        message = f"has format {made}, made by {age} program; this one reads 1: .*{CURE}"
        with pytest.raises(ModelMismatchError, match=message):
            verify_ranker(folder)

    def test_unknown_features_are_named(self, folder: Path) -> None:
        rewrite(folder / SPEC_FILE, features=["merged", "phase_of_the_moon", "tide"])
        with pytest.raises(ModelMismatchError, match=f"the features phase_of_the_moon, tide, which .*{CURE}"):
            verify_ranker(folder)


class TestEncoderMatch:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"encoder": "encoder-2"}, "on the encoder encoder-1, the index has encoder-2"),
            ({"vector_dimension": 32}, "vectors of dimension 16, the index has 32"),
            ({"state_dimension": 64}, "token states of dimension 8, the index has 64"),
        ],
    )
    def test_encoder_mismatch_error_names_both_and_the_remedy(self, change: dict[str, object], words: str) -> None:
        why = misfit(SPEC, dataclasses.replace(ENCODING, **change))  # type: ignore[arg-type]
        assert words in why
        assert why.endswith("train one for this index: shelfwise train ranker")


def saved(folder: Path, graph: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(graph if isinstance(graph, bytes) else graph.SerializeToString())
    return path


def with_node(operator: str, domain: str) -> onnx.ModelProto:
    graph = linear_graph()
    graph.graph.node.append(helper.make_node(operator, ["scores"], ["more"], domain=domain))
    return graph


def test_the_fields_are_those_of_the_format_and_all_that_can_hold_operators_or_tensors() -> None:
    messages: dict[str, Any] = {}

    def collect(message: Any) -> None:  # noqa: ANN401 - descriptors have no public type
        if message.name not in messages:
            messages[message.name] = message
            for field in message.fields:
                if field.message_type:
                    collect(field.message_type)

    collect(onnx.ModelProto.DESCRIPTOR)
    read = {(message, name): field for message, fields in ONNX_FIELDS.items() for name, field in fields.items()}
    for (message, name), (number, kind) in read.items():
        field = messages[message].fields_by_name[name]
        assert field.number == number
        assert field.is_repeated == kind.endswith("*")
        assert not field.message_type or field.message_type.name == kind.rstrip("*")
    holders = {"NodeProto", "TensorProto"}
    for _ in messages:
        holders |= {each.name for each in messages.values() if any(_kind(field) in holders for field in each.fields)}
    needed = {(name, field.name) for name in messages for field in messages[name].fields if _kind(field) in holders}
    assert needed <= set(read)


def _kind(field: Any) -> str:  # noqa: ANN401 - as above
    return field.message_type.name if field.message_type else ""


class TestOperators:
    def test_exported_graphs_pass_in_both_precisions(self, tmp_path: Path) -> None:
        columns = {"features": len(FEATURES), "history_vectors": 16}
        check_graph(saved(tmp_path, linear_graph()), columns)
        reduced = quantise_graph(linear_graph())
        assert {node.domain for node in reduced.graph.node} == {"", "com.microsoft"}
        check_graph(saved(tmp_path, reduced), columns)

    @pytest.mark.parametrize(
        ("operator", "domain"),
        [
            ("PythonOp", "com.microsoft"),
            ("EPContext", "com.microsoft"),
            ("Snpe", "com.microsoft"),
            ("ATen", "org.pytorch.aten"),
            ("PyOp", "ai.onnx.contrib"),
            ("MatMul", "my.library"),
            ("Loop", ""),
            ("Scan", "ai.onnx"),
        ],
    )
    def test_unsafe_operators_are_refused_by_name(self, tmp_path: Path, operator: str, domain: str) -> None:
        with pytest.raises(ModelMismatchError, match=f"needs the operator '{operator}' of .*: shelfwise train ranker"):
            check_graph(saved(tmp_path, with_node(operator, domain)))

    def test_unsafe_operator_in_a_branch_is_found(self, tmp_path: Path) -> None:
        node = helper.make_node("PyOp", [], ["y"], domain="ai.onnx.contrib")
        inner = helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
        graph = linear_graph()
        graph.graph.node.append(helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner))
        with pytest.raises(ModelMismatchError, match="'PyOp'"):
            check_graph(saved(tmp_path, graph))

    def test_unsafe_operator_in_a_function_is_found(self, tmp_path: Path) -> None:
        def made(inside: str, called: str) -> onnx.ModelProto:
            body = [helper.make_node(inside, ["x"], ["y"], domain="" if inside == "Relu" else "ai.onnx.contrib")]
            opsets = [helper.make_opsetid("", 20)]
            function = helper.make_function("ours", "twice", ["x"], ["y"], body, opsets)
            graph = with_node(called, "ours")
            graph.functions.append(function)
            return graph

        check_graph(saved(tmp_path, made("Relu", "twice")))
        with pytest.raises(ModelMismatchError, match=r"'PyOp' of 'ai.onnx.contrib'"):
            check_graph(saved(tmp_path, made("PyOp", "twice")))
        with pytest.raises(ModelMismatchError, match="'thrice' of 'ours'"):
            check_graph(saved(tmp_path, made("Relu", "thrice")))


class TestTensors:
    @pytest.mark.parametrize(
        "location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", MODEL_FILE]
    )
    def test_external_tensor_is_refused(self, tmp_path: Path, location: str) -> None:
        graph = linear_graph()
        tensor = graph.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        with pytest.raises(ModelMismatchError, match=r"reads the tensor 'weights' from .*contain its tensors"):
            check_graph(saved(tmp_path, graph))

    def test_external_tensor_in_an_attribute_is_found(self, tmp_path: Path) -> None:
        constant = numpy_helper.from_array(np.zeros(3, np.float32), "zeros")
        constant.data_location = TensorProto.EXTERNAL
        graph = linear_graph()
        graph.graph.node.append(helper.make_node("Constant", [], ["zeros"], value=constant))
        with pytest.raises(ModelMismatchError, match="from a place that it does not name"):
            check_graph(saved(tmp_path, graph))


class TestFiles:
    @pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"not a graph", b"\x08\x0a", b"\x0a" * 5_000])
    def test_invalid_graph_raises(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(ModelDamagedError, match=r"(is not an ONNX graph|has an ONNX graph without operators)"):
            check_graph(saved(tmp_path, content))

    def test_truncated_graph_is_refused_or_valid(self, tmp_path: Path) -> None:
        whole = linear_graph(features=17).SerializeToString()  # no truncation below ends between two fields
        for length in range(0, len(whole), 7):
            with pytest.raises(ModelDamagedError):
                check_graph(saved(tmp_path, whole[:length]))

    def test_deeply_nested_graph_is_refused(self, tmp_path: Path) -> None:
        content = b""
        for _ in range(400):
            # A node (field 1 of a graph) with an attribute (5) that is a graph (6).
            content = _field(1, _field(5, _field(6, content)))
        with pytest.raises(ModelDamagedError, match="is not an ONNX graph"):
            check_graph(saved(tmp_path, _field(7, content)))

    def test_weights_must_be_safetensors(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        save_file({"a": np.zeros(3, np.float32)}, path)
        check_weights(path)
        for content in (b"", pickle.dumps({"a": 1}), path.read_bytes()[:-1], b"\xff" * 64):
            path.write_bytes(content)
            with pytest.raises(ModelDamagedError, match="is not a safetensors file"):
                check_weights(path)
        with pytest.raises(ModelDamagedError, match="is not a safetensors file"):
            check_weights(tmp_path / "none.safetensors")


def _field(number: int, content: bytes) -> bytes:
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
