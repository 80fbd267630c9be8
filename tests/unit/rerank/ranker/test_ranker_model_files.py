"""Graphs and weights that are not run: those that reach outside, that may not end, that are no such file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from rerank.ranker.features import FEATURES
from rerank.sealed_folder import check_graph, check_weights
from retrieval.encoders.onnx_export import quantise_graph
from retrieval.errors import ModelDamagedError, ModelMismatchError
from tests.rankers import linear_graph


def saved(folder: Path, graph: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def with_node(operator: str, domain: str) -> onnx.ModelProto:
    graph = linear_graph()
    graph.graph.node.append(helper.make_node(operator, ["scores"], ["more"], domain=domain))
    return graph


class TestOperators:
    def test_a_graph_of_ours_passes_in_both_precisions(self, tmp_path: Path) -> None:
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
    def test_operators_that_call_out_or_may_not_end_are_refused_by_name(
        self, tmp_path: Path, operator: str, domain: str
    ) -> None:
        path = saved(tmp_path, with_node(operator, domain))
        with pytest.raises(ModelMismatchError, match=f"needs the operator '{operator}' of .*: shelfwise train ranker"):
            check_graph(path)

    def test_one_inside_a_branch_is_found(self, tmp_path: Path) -> None:
        inner = helper.make_graph(
            [helper.make_node("PyOp", [], ["y"], domain="ai.onnx.contrib")],
            "branch",
            [],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
        graph = linear_graph()
        graph.graph.node.append(helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner))
        with pytest.raises(ModelMismatchError, match="'PyOp'"):
            check_graph(saved(tmp_path, graph))

    def test_one_inside_a_function_is_found_and_a_function_vouches_for_its_own_name_alone(self, tmp_path: Path) -> None:
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
        "location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "model.onnx"]
    )
    def test_one_that_is_elsewhere_is_refused(self, tmp_path: Path, location: str) -> None:
        graph = linear_graph()
        tensor = graph.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        with pytest.raises(ModelMismatchError, match=r"reads the tensor 'weights' from .*holds its tensors"):
            check_graph(saved(tmp_path, graph))

    def test_one_inside_an_attribute_is_found(self, tmp_path: Path) -> None:
        constant = numpy_helper.from_array(np.zeros(3, np.float32), "zeros")
        constant.data_location = TensorProto.EXTERNAL
        graph = linear_graph()
        graph.graph.node.append(helper.make_node("Constant", [], ["zeros"], value=constant))
        with pytest.raises(ModelMismatchError, match="from a place that it does not name"):
            check_graph(saved(tmp_path, graph))


class TestFiles:
    def test_inputs_of_other_lengths_are_told(self, tmp_path: Path) -> None:
        path = saved(tmp_path, linear_graph(features=9))
        with pytest.raises(ModelDamagedError, match="takes features of 9 columns, what is beside it says 16"):
            check_graph(path, {"features": 16})

    @pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"not a graph", b"\x08\x0a", b"\x0a" * 5_000])
    def test_what_is_no_graph_is_told(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelDamagedError, match=r"holds (no ONNX graph|an ONNX graph without operators)"):
            check_graph(path)

    def test_every_shortened_graph_is_refused_or_whole_in_what_it_says(self, tmp_path: Path) -> None:
        whole = linear_graph().SerializeToString()
        path = tmp_path / "model.onnx"
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            with pytest.raises(ModelDamagedError):
                check_graph(path)

    def test_a_graph_nested_beyond_measure_is_refused(self, tmp_path: Path) -> None:
        content = b""
        for _ in range(400):
            # A node (field 1 of a graph) with an attribute (5) that is a graph (6).
            content = _field(1, _field(5, _field(6, content)))
        path = tmp_path / "model.onnx"
        path.write_bytes(_field(7, content))
        with pytest.raises(ModelDamagedError, match="holds no ONNX graph"):
            check_graph(path)

    def test_weights_are_safetensors_and_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "weights.safetensors"
        save_file({"a": np.zeros(3, np.float32)}, path)
        check_weights(path)
        for content in (b"", pickle.dumps({"a": 1}), path.read_bytes()[:-1], b"\xff" * 64):
            path.write_bytes(content)
            with pytest.raises(ModelDamagedError, match="holds no safetensors"):
                check_weights(path)
        with pytest.raises(ModelDamagedError, match="holds no safetensors"):
            check_weights(tmp_path / "none.safetensors")


def _field(number: int, content: bytes) -> bytes:
    """A message inside a message, as protobuf writes it."""
    length, size = len(content), b""
    while length > 127:
        size += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
