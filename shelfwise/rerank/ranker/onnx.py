"""A served ranker: its graph on ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.model_store import MODEL_FILE
from shelfwise.rerank.ranker.features import FEATURES, MERGED, Candidates, RankerInputs, pad_batch
from shelfwise.rerank.ranker.memory import MEMORY
from shelfwise.rerank.ranker.spec import TEACHER, RankerSpec, StoredRanker
from shelfwise.retrieval.encoders.onnx import open_graph
from shelfwise.retrieval.errors import RANKER, ModelDamagedError, ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OUTPUT = "scores"
_CURE = "train the ranker again"


def open_model(
    path: Path, inputs: Collection[str], outputs: Sequence[str], noun: str, cure: str, family: str = RANKER
) -> tuple[InferenceSession, set[str]]:
    """Opens the graph of a stored model; also returns those of `inputs` that it takes. Messages use `noun` and `cure`.

    Raises ModelDamagedError if it cannot be run, takes other inputs, or has other outputs than `outputs`.
    """
    try:
        session = open_graph(path)
    except Exception as error:
        # ONNX Runtime's exceptions have no common base class except Exception.
        raise ModelDamagedError(f"{path} cannot be run ({str(error)[:300]}); {cure}", family) from error
    names = {given.name for given in session.get_inputs()}
    if not names <= set(inputs) or [made.name for made in session.get_outputs()] != list(outputs):
        raise ModelDamagedError(f"{path} takes {', '.join(sorted(names))}: no {noun}'s graph; {cure}", family)
    return session, names


class OnnxRanker:
    """Scores candidates with a published ranker. Thread-safe; each call computes in the calling thread."""

    def __init__(self, ranker: StoredRanker) -> None:
        """Raises ModelDamagedError like `open_model`."""
        self.name = ranker.name
        self.spec: RankerSpec = ranker.spec
        self._columns = np.array([FEATURES.index(name) for name in self.spec.features])
        self._event_weights = np.array(self.spec.event_weights, np.float32)
        path = ranker.folder / MODEL_FILE
        self._session, self._inputs = open_model(path, RankerInputs.__dataclass_fields__, (OUTPUT,), "ranker", _CURE)

    @property
    def reads_history(self) -> bool:
        """Whether a shopper's history changes its scores."""
        return "history_vectors" in self._inputs

    @property
    def reads_memory(self) -> bool:
        """Whether the query memory changes its scores."""
        return not set(MEMORY).isdisjoint(self.spec.features)

    @property
    def reads_states(self) -> bool:
        return "product_states" in self._inputs

    def score(self, lists: Sequence[Candidates]) -> list[NDArray[np.float64]]:
        """The scores (c,) of each list's candidates: the weighted sum of the network's outputs and the merged score. A
        score does not depend on other candidates or lists. Raises ModelError if the graph fails or a score is not
        finite."""
        filled = [each for each in lists if len(each.features)]
        if not filled:
            return [np.empty(0) for _ in lists]
        given = pad_batch(filled, self.spec.vector_dimension).arrays()
        given["features"] = given["features"][:, :, self._columns]
        try:
            (scores,) = self._session.run(None, {name: given[name] for name in self._inputs})
            # `_mixed` checks for NaN.
            with np.errstate(invalid="ignore"):
                mixed = iter(scores @ self._event_weights)
        except Exception as error:
            raise ModelError(f"{self.name} failed on its candidates ({str(error)[:300]})") from error
        return [self._mixed(next(mixed), each) if len(each.features) else np.empty(0) for each in lists]

    def fit(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The probabilities (c,) that candidates with these scores fit their query."""
        slope, intercept = self.spec.calibration
        return np.asarray(1 / (1 + np.exp(-np.clip(slope * scores + intercept, -30, 30))))

    @property
    def judges_relevance(self) -> bool:
        """Whether `fit` is a probability of relevance, not of a click or a grade, which is low for many good hits."""
        return TEACHER in self.spec.trained_on

    def _mixed(self, network: NDArray[np.float32], each: Candidates) -> NDArray[np.float64]:
        merged = each.features[:, MERGED].astype(np.float64)
        scores = np.asarray(network[: len(merged)].astype(np.float64) + self.spec.mix * merged)
        if not np.isfinite(scores).all():
            raise ModelError(f"{self.name} returned the score {scores[~np.isfinite(scores)][0]}: train it again")
        return scores
