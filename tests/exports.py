"""Traces and projections of the export of models to ONNX, cached for all processes."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from filelock import FileLock
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from shelfwise.retrieval.encoders.base import PROJECTION_FILE
from shelfwise.retrieval.encoders.folder import folder_fingerprint

Floats = NDArray[np.float32]
Export = Callable[..., torch.onnx.ONNXProgram | None]

_ROOT = Path(__file__).parents[1]


def traces_folder(cache: Path) -> Path:
    """The folder of traces for the current sources and libraries; folders of other sources are removed."""
    sources = [
        _ROOT / "requirements.lock",
        *(each for part in ("rerank", "retrieval") for each in _ROOT.glob(f"shelfwise/{part}/**/*.py")),
    ]
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in sorted(sources))).hexdigest()[:16]
    folder = cache / "traces" / digest
    for other in (cache / "traces").glob("*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def traced_once(export: Export, folder: Path) -> Export:
    """`torch.onnx.export` that traces an architecture once and later fills in the weights of a module; all processes
    and runs share the traces in `folder`.

    An architecture is the printed module, the plain attributes of its parts, and the shapes of its tensors and inputs.
    """
    traced: dict[str, ir.Model] = {}

    def export_or_fill(
        module: torch.nn.Module,
        examples: tuple[torch.Tensor, ...],
        optimize: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> torch.onnx.ONNXProgram | None:
        tensors: dict[str, torch.Tensor] = dict(module.named_buffers(remove_duplicate=False))
        tensors.update(module.named_parameters(remove_duplicate=False))
        # Except the path from which the model was read, which differs between tests.
        plain = [
            {name: value for name, value in vars(part).items() if name[0] != "_" and name != "name_or_path"}
            for part in module.modules()
        ]
        shapes = [(each.shape, each.dtype) for each in (*tensors.values(), *examples)]
        described = repr((type(module), module, plain, list(tensors), shapes, options))
        key = hashlib.sha256(re.sub(r" at 0x\w+", "", described).encode()).hexdigest()
        path = folder / f"{key}.onnx"
        with FileLock(path.with_suffix(".lock")):
            if key not in traced and path.exists():
                traced[key] = ir.load(path)
            elif key not in traced:
                program = export(module, examples, **options, optimize=False)
                if program is None:
                    return None
                traced[key] = program.model
                _fill(program.model, dict.fromkeys(tensors, _NOTHING))
                ir.save(program.model, path.with_suffix(".partial"), format="protobuf")
                path.with_suffix(".partial").rename(path)
        model = traced[key].clone()
        _fill(model, {name: tensor.detach().numpy() for name, tensor in tensors.items()})
        filled = torch.onnx.ONNXProgram(model, None)
        if optimize:
            filled.optimize()
        return filled

    return export_or_fill


def projected_once(project: Callable[[SentenceTransformer, Path], Floats], folder: Path) -> Callable[..., Floats]:
    """`token_projection` that runs a model over the sample of texts once; all processes and runs share the projections
    in `folder`."""

    def project_or_load(model: SentenceTransformer, source: Path) -> Floats:
        if (source / PROJECTION_FILE).exists():
            return project(model, source)
        path = folder / f"{folder_fingerprint(source)}-{model.max_seq_length}.npy"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                np.save(path.with_suffix(".partial.npy"), project(model, source))
                path.with_suffix(".partial.npy").rename(path)
            made: Floats = np.load(path)
        return made

    return project_or_load


_NOTHING = np.zeros(0, np.float32)
"""Placeholder for the weights of a module in its trace."""


def _fill(model: ir.Model, values: dict[str, NDArray[Any]]) -> None:
    for name, initial in model.graph.initializers.items():
        if name in values:
            tensor = ir.tensor(values[name], name=name)
            initial.const_value = tensor
            # A trace from a file has the shape and type of the placeholder.
            initial.shape, initial.type = ir.Shape(values[name].shape), ir.TensorType(tensor.dtype)
