"""The folder of a trained ranker: its spec, its report, and the model family of rankers.

model.onnx            the network as it is served
weights.safetensors   the same network, for further training
ranker.json           RankerSpec: everything else that running the network needs
report.json           ModelReport: its measures, and whether it may serve
seal.json             length and XXH3 checksum of each file
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import xxhash

from shelfwise.rerank.model_card import ModelReport, model_use
from shelfwise.rerank.model_store import (
    DEFAULT_MODEL,
    FORMAT,
    MODEL_FILE,
    WEIGHTS_FILE,
    AddResult,
    Encoding,
    ModelFamily,
    ModelStore,
    StoredModel,
    find_misfit,
)
from shelfwise.rerank.ranker.features import FEATURES
from shelfwise.retrieval.errors import RANKER, InputError, ModelDamagedError, ModelMismatchError
from shelfwise.retrieval.store.files import checksum

SPEC_FILE = "ranker.json"
MAX_FILE_BYTES, MAX_JSON_BYTES = 256 << 20, 4 << 20
"""Size limits: of a file (fifty times our largest), and of a JSON file."""
KEEP = 10
ERASURES = "erasures"
"""Key of `trained_on`: the number of shopper erasures before its training events were read; absent without events."""
TEACHER = "teacher"
"""Key of `trained_on`: the cross-encoder it is calibrated to; absent if calibrated to clicks or grades."""
STORES = "stores"
"""Key of `trained_on`: the stores whose weights were averaged; absent if it was trained on one."""
_CURE = "roll back to another one (shelfwise models rollback) or train it again (shelfwise train ranker)"


Precision = Literal["fp32", "int8"]


class RankerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ranker.json: everything that running the network needs besides its weights."""

    format: int = FORMAT
    identity: str = ""
    """Fingerprint of everything that determines scores; `write_ranker` sets it."""
    encoder: str
    """Identity of the encoder whose token states and vectors it was trained on."""
    state_dimension: int
    """Columns of token states."""
    vector_dimension: int
    """Columns of product vectors."""
    features: tuple[str, ...]
    """The columns of its feature matrix, in order; names from `shelfwise.rerank.ranker.features`."""
    layers: int
    """Cross-attention layers; 0 for the features head only."""
    precision: Precision
    mix: float
    """The weight of the merged score: a candidate's score is the network's plus `mix` times the merged one."""
    event_weights: tuple[float, float, float]
    """Weights of clicks, carts and purchases in the network's score."""
    calibration: tuple[float, float]
    """Slope and intercept: the probability that a product fits is sigmoid(slope * score + intercept)."""
    neutral: tuple[float, ...] = ()
    """Means of `features` in training, the reference values of explanations; if empty, 0."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, seed, rows and date, for information; also `ERASURES`, `TEACHER` and `STORES`."""
    parent: str = ""
    """Identity of the ranker from which training started, if any."""


def misfit(spec: RankerSpec, encoding: Encoding) -> str:
    """The reason why a ranker cannot serve an index, or ""."""
    trained_on = Encoding(spec.encoder, spec.vector_dimension, spec.state_dimension)
    return find_misfit(trained_on, encoding, "shelfwise train ranker")


def _prepare(folder: Path, spec: RankerSpec, report: ModelReport) -> RankerSpec:
    if problem := _problem(spec):
        raise InputError(f"the ranker's spec is not valid: {problem}")
    if not all(map(math.isfinite, report.measures.values())):
        raise InputError(f"a ranker's measures must be finite numbers; these are {dict(report.measures)}")
    return msgspec.structs.replace(spec, format=FORMAT, identity=_identity(folder, spec))


def _check(path: Path, spec: RankerSpec) -> None:
    if unknown := [name for name in spec.features if name not in FEATURES]:
        message = f"{path} reads the features {', '.join(unknown)}, which this program does not have: {_CURE}"
        raise ModelMismatchError(message)
    if problem := _problem(spec):
        raise ModelDamagedError(f"{path} is not a valid ranker spec: {problem}; {_CURE}")


def _problem(spec: RankerSpec) -> str:
    if not all(map(math.isfinite, (spec.mix, *spec.event_weights, *spec.calibration))):
        return f"mix {spec.mix}, event weights {spec.event_weights} and calibration {spec.calibration} must be finite"
    if min(spec.state_dimension, spec.vector_dimension) < 1 or spec.layers < 0:
        dimensions = f"{spec.state_dimension} and {spec.vector_dimension}"
        return f"dimensions {dimensions} must be at least 1 and layers {spec.layers} not negative"
    if not spec.features or len(set(spec.features)) < len(spec.features):
        return f"its features must have distinct names, but are {', '.join(spec.features) or 'none'}"
    if spec.neutral and not (len(spec.neutral) == len(spec.features) and all(map(math.isfinite, spec.neutral))):
        return f"neutral has {len(spec.neutral)} values, but must have a finite one for each of {len(spec.features)}"
    return ""


def _identity(folder: Path, spec: RankerSpec) -> str:
    """XXH3 (64 bits, hexadecimal) over everything that determines scores."""
    scoring = msgspec.structs.replace(spec, format=FORMAT, identity="", neutral=(), trained_on={}, parent="")
    digest = xxhash.xxh3_64(msgspec.json.encode(scoring))
    for name in (MODEL_FILE, WEIGHTS_FILE):
        try:
            digest.update(checksum(folder / name).encode())
        except OSError as error:
            raise ModelDamagedError(f"{folder / name} cannot be read ({error.strerror}); {_CURE}") from error
    return f"ranker-{digest.hexdigest()}"


SHIPPED = Path(__file__).with_name("shipped")
"""The shipped rankers, for indexes without a trained one: features heads, one folder per encoder, distilled on several
catalogs (docs/rankers.md)."""


def shipped_ranker(encoding: Encoding, among: Path = SHIPPED) -> tuple[Path, RankerSpec, ModelReport] | None:
    """The shipped ranker for an index, verified, as if it had been trained on that index's own encoder; None if none.

    It reads no vectors, so their dimension does not matter.
    The encoder's model counts, not its runtime: the states of one model in int8 and in float32 are nearly the same. The
    states of a table distilled from it serve as well (docs/towers.md), and so do those of an encoder trained
    from either (docs/benchmarks.md#trained-on-judgments-and-on-trained-vectors).
    Raises ModelDamagedError or ModelMismatchError if its files were changed.
    """
    model = f"{encoding.origin}-" if encoding.origin else encoding.encoder
    for folder in sorted(among.iterdir()) if among.is_dir() else ():
        spec = read_spec(folder)
        is_its_model = model.startswith((f"{spec.encoder}-", f"static-{spec.encoder}-"))
        if is_its_model and encoding.state_dimension == spec.state_dimension:
            of_index = {"encoder": encoding.encoder, "vector_dimension": encoding.vector_dimension}
            return folder, msgspec.structs.replace(verify_ranker(folder), **of_index), read_report(folder)
    return None


def _default(encoding: Encoding) -> StoredRanker | None:
    found = shipped_ranker(encoding)
    return StoredModel(DEFAULT_MODEL, *found) if found else None


RANKERS = ModelFamily(
    name=RANKER,
    noun="ranker",
    folder="rankers",
    spec_type=RankerSpec,
    spec_file=SPEC_FILE,
    use=model_use(
        "A ranker: it reorders the best 100 candidates of a search (docs/ranking.md).",
        "Clicks say nothing about products that were never shown. A click model corrects for position.",
    ),
    max_file_bytes=MAX_FILE_BYTES,
    max_json_bytes=MAX_JSON_BYTES,
    train="shelfwise train ranker",
    fallback="results keep the merged order",
    keep=KEEP,
    misfit=misfit,
    columns=lambda spec: {
        "features": len(spec.features),
        "query_states": spec.state_dimension,
        "product_states": spec.state_dimension,
        "candidate_vectors": spec.vector_dimension,
        "history_vectors": spec.vector_dimension,
    },
    prepare=_prepare,
    check=_check,
    shipped=_default,
    serves_older=True,
)
read_spec, read_report, verify_ranker = RANKERS.read_spec, RANKERS.read_report, RANKERS.verify
write_ranker = RANKERS.write
StoredRanker = StoredModel[RankerSpec]
RankerStore = ModelStore[RankerSpec]
AddedRanker = AddResult[RankerSpec]


def ranker_store(root: Path) -> RankerStore:
    """The rankers of an index directory."""
    return ModelStore(root, RANKERS)
