"""The teacher protocol, which maps pairs of query and text to scores, and the opening of teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.teacher.cross_encoder import SPEC_FILE, find_cross_encoder, identity_for, read_spec
from shelfwise.rerank.teacher.pairs import DEFAULT_TEACHER
from shelfwise.retrieval.encoders.base import DEFAULT_MAX_LENGTH, Runtime
from shelfwise.retrieval.encoders.registry import NETWORK_RUNTIMES, detect_runtime, parse_runtime
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.extras import optional_imports


class Teacher(Protocol):
    """Scores how well texts answer queries, reading both together."""

    @property
    def identity(self) -> str: ...

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Logits (n,) of the pairs (queries[i], texts[i]): higher fits better; only order and distance count.

        Pass many pairs at once, in any order: each distinct text is tokenized once, and pairs of equal length run
        together. `progress` receives the number of further completed pairs. All texts are accepted: if a pair is too
        long for the model, the end of its text is cut first. Raises EncoderError if the device or the runtime fails,
        ValueError if the numbers of queries and texts differ.
        """
        ...


def open_teacher(
    name_or_folder: str = DEFAULT_TEACHER,
    runtime: str = "auto",
    cache: Path = Path(".cache"),
    *,
    max_length: int = DEFAULT_MAX_LENGTH,
) -> Teacher:
    """The teacher of a cross-encoder's name on the hub or folder, or of an exported teacher's folder.

    "auto" is torch if it finds a GPU, else ONNX in int8. `max_length` is in tokens of a pair. An ONNX export is made
    once, stored under `cache` by the fingerprint of the model's files, and then opened without torch; two processes may
    do that at once. Raises EncoderUnavailableError if the model cannot be found, loaded or exported or is not a
    cross-encoder with one output, SettingError for a runtime that does not exist or differs from the runtime of an
    exported folder.
    """
    wanted = parse_runtime(runtime, NETWORK_RUNTIMES)
    exported = Path(name_or_folder).expanduser()
    if (exported / SPEC_FILE).is_file():
        _check_runtime(exported, wanted)
    else:
        source = find_cross_encoder(name_or_folder, cache)
        chosen = wanted or detect_runtime()
        if chosen in ("torch", "torch-bf16"):
            with optional_imports():
                from shelfwise.rerank.teacher.cross_encoder import TorchTeacher

            return TorchTeacher(source, runtime=chosen, max_length=max_length)
        exported = cache / "teachers" / identity_for(source, chosen, max_length)
        if not exported.is_dir():
            with optional_imports():
                from shelfwise.rerank.teacher.onnx_export import export_teacher

            export_teacher(source, exported, "int8" if chosen == "onnx-int8" else "fp32", max_length=max_length)
    from shelfwise.rerank.teacher.onnx import OnnxTeacher

    return OnnxTeacher(exported)


def _check_runtime(exported: Path, wanted: Runtime | None) -> None:
    made_for = read_spec(exported).runtime
    if wanted not in (None, made_for):
        message = (
            f"{exported} was exported for runtime {made_for}, not {wanted}; use the model from which it was exported"
        )
        raise SettingError(message)
