"""The extras of the package: libraries that an environment may lack, and the error that names the command for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shelfwise.retrieval.errors import MissingExtraError

EXTRAS = {
    "train": (
        "accelerate",
        "datasets",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "opacus",
        "optuna",
        "peft",
        "sentence_transformers",
        "sklearn",
        "sqlalchemy",
        "tensorboard",
        "torch",
        "transformers",
    ),
    "demo": ("fontTools",),
    "elasticsearch": ("circuitbreaker", "elastic_transport", "elasticsearch"),
    "mcp": ("mcp",),
    "parquet": ("pyarrow",),
    "ray": ("ray",),
}
"""The modules that each extra of setup.cfg brings."""


@contextmanager
def optional_imports() -> Iterator[None]:
    """Imports of libraries that an extra brings; raises MissingExtraError if one of them is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        message = f"this needs {module}, which is not installed: pip install 'shelfwise[{extra}]'"
        raise MissingExtraError(message) from error
