"""What an export of a model to ONNX takes seconds for, done once: traces and projections."""

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

Floats = NDArray[np.float32]
Export = Callable[..., torch.onnx.ONNXProgram | None]

_ROOT = Path(__file__).parents[1]
_MOST = 4_000_000
"""Numbers of a module whose trace is kept in a file."""


def traces_folder(cache: Path) -> Path:
    """Where the traces that these sources and libraries make are kept; those of others are removed."""
    sources = [
        _ROOT / "requirements.lock",
        *(each for part in ("rerank", "retrieval") for each in _ROOT.glob(f"{part}/**/*.py")),
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
        **options: Any,  # noqa: ANN401
    ) -> torch.onnx.ONNXProgram | None:
        tensors: dict[str, torch.Tensor] = dict(module.named_buffers(remove_duplicate=False))
        tensors.update(module.named_parameters(remove_duplicate=False))
        plain = [{name: value for name, value in vars(part).items() if name[0] != "_"} for part in module.modules()]
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
                if sum(each.numel() for each in tensors.values()) <= _MOST:
                    ir.save(program.model, path.with_suffix(".partial"), format="protobuf")
                    path.with_suffix(".partial").rename(path)
        _fill(traced[key], dict.fromkeys(tensors))
        model = traced[key].clone()
        _fill(model, {name: ir.tensor(tensor.detach().numpy(), name=name) for name, tensor in tensors.items()})
        filled = torch.onnx.ONNXProgram(model, None)
        filled.optimize()
        return filled

    return export_or_fill


def projected_once(project: Callable[[SentenceTransformer, Path], Floats]) -> Callable[..., Floats]:
    """`token_projection` that runs a model over the sample of texts once."""
    projections: dict[tuple[Path, int | None], Floats] = {}

    def project_or_look_up(model: SentenceTransformer, folder: Path) -> Floats:
        key = (folder, model.max_seq_length)
        if key not in projections:
            projections[key] = project(model, folder)
        return projections[key]

    return project_or_look_up


def _fill(model: ir.Model, weights: dict[str, Any]) -> None:
    for name, initial in model.graph.initializers.items():
        if name in weights:
            initial.const_value = weights[name]
