"""The folder of a trained ranker: what ranker.json and report.json say, and the seal that vouches for every file.

model.onnx            the network as it is served
weights.safetensors   the same as it is trained on from there
ranker.json           RankerSpec: what running it takes besides
report.json           RankerReport: what it was measured by, and whether it may serve
seal.json             length and XXH3 checksum of each of them
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import xxhash

from rerank.evaluation.promotion import Decision
from rerank.ranker.features import FEATURES
from rerank.sealed_folder import check_graph, check_weights
from retrieval.errors import InputError, ModelDamagedError, ModelMismatchError
from retrieval.store.files import SEAL_FILE, FileEntry, checksum, read_json, seal_folder, sealed_problem

FORMAT = 1
"""Counts up when a ranker's files change so that an older program could not use them. The seal stays as it is."""
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
SPEC_FILE = "ranker.json"
REPORT_FILE = "report.json"
MOST_MODEL_BYTES = 256 << 20
"""Of one file of a ranker: fifty times the largest that we made."""
MOST_TOLD_BYTES = 4 << 20
"""Of each JSON file."""
ORDERS = MERGED, SERVED, NAIVE, NEW = "merged", "served", "naive", "new"
"""The first stages' order; the ranker that served before; what learning from clicks as they are gives; the ranker
itself."""
_NEEDED = (MODEL_FILE, WEIGHTS_FILE, SPEC_FILE, REPORT_FILE)
_CURE = "let another one serve (shelfwise models rollback) or train it again (shelfwise train ranker)"

_Read = TypeVar("_Read")


class RankerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What ranker.json holds: all that running the network takes besides its weights."""

    format: int = FORMAT
    identity: str = ""
    """Names weights, graph and whatever else decides its scores; `write_ranker` fills it in."""
    encoder: str
    """Identity of the encoder whose token states and vectors it was trained on."""
    state_dimension: int
    """Columns of token states."""
    vector_dimension: int
    """Columns of product vectors."""
    features: tuple[str, ...]
    """The columns of its feature matrix, in their order; names from `rerank.ranker.features`."""
    layers: int
    """Cross-attention layers; 0 is the features head alone."""
    precision: Literal["fp32", "int8"]
    mix: float
    """A candidate's score is the network's plus `mix` times the merged one."""
    event_weights: tuple[float, float, float]
    """What a click, a cart and a purchase are worth in the network's score."""
    calibration: tuple[float, float]
    """Slope and intercept: the probability that a product fits is sigmoid(slope * score + intercept)."""
    neutral: tuple[float, ...] = ()
    """What each of `features` was on average in training, which its part in a score is told against; empty for a
    ranker that does not say, whose features are told against 0."""
    trained_on: Mapping[str, str | int | float] = {}
    """Data, seed, rows, date: for people."""
    parent: str = ""
    """Identity of the ranker that its training began from; empty for one from nothing."""


class OrderResult(msgspec.Struct, frozen=True):
    """The mean nDCG@10 of an order over the held-out queries, each by its traffic."""

    order: str
    """One of `ORDERS`."""
    ndcg: float
    low: float
    high: float
    """The ends of its 95% interval, from a bootstrap over queries."""
    queries: int

    def __str__(self) -> str:
        return f"{self.order} {self.ndcg:.4f}"


class RankerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What report.json holds: how good a ranker is, by what it was not trained on."""

    created: str
    """ISO 8601, UTC."""
    measured_on: str = ""
    """Names the held-out data: figures of two rankers compare only where this is the same."""
    measures: Mapping[str, float] = {}
    """By name, nDCG@10 for one, in the order in which they are shown."""
    against: str = ""
    """What it was judged against: a ranker's name, or the merged order."""
    decision: Decision | None = None
    """The gate's, where it was asked."""
    rejection_reasons: tuple[str, ...] = ()
    """Why it is rejected; empty for one that was published."""
    orders: tuple[OrderResult, ...] = ()
    """Of one that learned from clicks, what it reaches and what others do on the same queries."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What an index holds of its products for a ranker to read."""

    encoder: str
    """Identity of its encoder."""
    vector_dimension: int
    state_dimension: int | None = None
    """None where it is not known, or where there are no states: those rankers read features alone then."""


def misfit(spec: RankerSpec, encoding: Encoding) -> str:
    """Why a ranker cannot serve an index, or nothing."""
    if spec.encoder != encoding.encoder:
        why = f"it was trained on the encoder {spec.encoder}, the index has {encoding.encoder}"
    elif spec.vector_dimension != encoding.vector_dimension:
        why = f"it reads vectors of dimension {spec.vector_dimension}, the index has {encoding.vector_dimension}"
    elif encoding.state_dimension not in (None, spec.state_dimension):
        why = f"it reads token states of dimension {spec.state_dimension}, the index has {encoding.state_dimension}"
    else:
        return ""
    return f"{why}; train one for this index: shelfwise train ranker"


def write_ranker(folder: Path, spec: RankerSpec, report: RankerReport) -> RankerSpec:
    """Completes a folder that holds a ranker's weights and graph: writes what it says of itself, seals and syncs all.

    Gives the spec with its identity. Raises InputError for values that no ranker has, ModelDamagedError or
    ModelMismatchError where the folder is then none that `verified` takes.
    """
    if problem := _problem(spec):
        raise InputError(f"no ranker is so: {problem}")
    if not all(map(math.isfinite, report.measures.values())):
        raise InputError(f"a ranker's measures are finite numbers; these are {dict(report.measures)}")
    spec = msgspec.structs.replace(spec, format=FORMAT, identity=_identity(folder, spec))
    seal_folder(folder, {SPEC_FILE: spec, REPORT_FILE: report})
    read_report(folder)
    return verify_ranker(folder)


def read_spec(folder: Path) -> RankerSpec:
    """What a ranker says of itself; its model files are not looked at.

    Raises ModelDamagedError where ranker.json or the seal cannot be read or do not agree, ModelMismatchError where
    it is of another format, or knows features that this program does not.
    """
    path = folder / SPEC_FILE
    _check_sealed(path, _entries(folder))
    made = _read(path, _Format).format
    if made != FORMAT:
        age = "a newer" if made > FORMAT else "an older"
        message = f"{path} is of format {made}, made by {age} program; this one reads {FORMAT}: {_CURE}"
        raise ModelMismatchError(message)
    spec = _read(path, RankerSpec)
    if unknown := [name for name in spec.features if name not in FEATURES]:
        message = f"{path} reads the features {', '.join(unknown)}, which this program does not have: {_CURE}"
        raise ModelMismatchError(message)
    if problem := _problem(spec):
        raise ModelDamagedError(f"{path} describes no ranker: {problem}; {_CURE}")
    return spec


def read_report(folder: Path) -> RankerReport:
    """What a ranker was measured by; raises ModelDamagedError as `read_spec`."""
    _check_sealed(folder / REPORT_FILE, _entries(folder))
    return _read(folder / REPORT_FILE, RankerReport)


def verify_ranker(folder: Path) -> RankerSpec:
    """The spec of a ranker whose every file is whole, and whose model files hold nothing that runs code.

    Other files than those named above are checked by their endings: a second graph is held to the same rule. Raises
    ModelDamagedError or ModelMismatchError, which name the file.
    """
    spec, entries = read_spec(folder), _entries(folder)
    for name in entries:
        _check_sealed(folder / name, entries)
    for name in entries:
        if name.endswith(".safetensors"):
            check_weights(folder / name)
        elif name.endswith(".onnx"):
            check_graph(folder / name, _columns(spec) if name == MODEL_FILE else None)
    return spec


class _Format(msgspec.Struct, frozen=True):
    format: int


def _problem(spec: RankerSpec) -> str:
    """Which value of a spec no ranker has, or nothing."""
    if not all(map(math.isfinite, (spec.mix, *spec.event_weights, *spec.calibration))):
        return f"mix {spec.mix}, event weights {spec.event_weights} and calibration {spec.calibration} are to be finite"
    if min(spec.state_dimension, spec.vector_dimension) < 1 or spec.layers < 0:
        dimensions = f"{spec.state_dimension} and {spec.vector_dimension}"
        return f"dimensions {dimensions} are to be 1 at least, layers {spec.layers} not negative"
    if not spec.features or len(set(spec.features)) < len(spec.features):
        return f"its features are to be named, each once, they are {', '.join(spec.features) or 'none'}"
    if spec.neutral and not (len(spec.neutral) == len(spec.features) and all(map(math.isfinite, spec.neutral))):
        return f"neutral has {len(spec.neutral)} values; it is to have a finite one for each of {len(spec.features)}"
    return ""


def _columns(spec: RankerSpec) -> dict[str, int]:
    """The last axes of what its graph takes: arrays of `rerank.ranker.features.RankerInputs`."""
    return {
        "features": len(spec.features),
        "query_states": spec.state_dimension,
        "product_states": spec.state_dimension,
        "candidate_vectors": spec.vector_dimension,
        "history_vectors": spec.vector_dimension,
    }


def _identity(folder: Path, spec: RankerSpec) -> str:
    """XXH3 (64 bits, hexadecimal) over all that decides scores."""
    scoring = msgspec.structs.replace(spec, format=FORMAT, identity="", neutral=(), trained_on={}, parent="")
    digest = xxhash.xxh3_64(msgspec.json.encode(scoring))
    for name in (MODEL_FILE, WEIGHTS_FILE):
        try:
            digest.update(checksum(folder / name).encode())
        except OSError as error:
            raise ModelDamagedError(f"{folder / name} cannot be read ({error.strerror}); {_CURE}") from error
    return f"ranker-{digest.hexdigest()}"


def _entries(folder: Path) -> dict[str, FileEntry]:
    path = folder / SEAL_FILE
    entries = _read(path, dict[str, FileEntry])
    for name in (*_NEEDED, *entries):
        if name not in entries or name != Path(name).name or name == "..":
            named = ", ".join(entries) or "nothing"
            raise ModelDamagedError(f"{path} vouches for {named}; it is to name {', '.join(_NEEDED)}: {_CURE}")
        most = MOST_TOLD_BYTES if name.endswith(".json") else MOST_MODEL_BYTES
        if entries[name].bytes > most:
            message = (
                f"{folder / name} has {entries[name].bytes:,} bytes; a ranker's file has {most:,} at most: {_CURE}"
            )
            raise ModelMismatchError(message)
    return entries


def _check_sealed(path: Path, entries: Mapping[str, FileEntry]) -> None:
    if problem := sealed_problem(path, entries[path.name]):
        raise ModelDamagedError(f"{path} {problem}; {_CURE}")


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        return read_json(path, kind, MOST_TOLD_BYTES)
    except ValueError as error:
        raise ModelDamagedError(f"{path} {error}; {_CURE}") from error


# The rankers that come with the program, for stores that have trained none: features heads, one for each encoder that
# has one, distilled on several stores' catalogs at once (`shelfwise train default`, docs/rankers.md).

DEFAULT_RANKER = "default"
"""Its name, beside those that an index has of its own."""
SHIPPED = Path(__file__).with_name("shipped")
"""A folder for each ranker, named as its encoder."""


def shipped_folder(encoding: Encoding, among: Path = SHIPPED) -> Path | None:
    """Where the ranker for an index lies, `among` those that are shipped; None where there is none for its encoder.

    The encoder's model counts, not how it is run: states of one model in int8 and in float32 are nearly the same.
    """
    for folder in sorted(among.iterdir()) if among.is_dir() else ():
        spec = read_spec(folder)
        sizes = spec.vector_dimension == encoding.vector_dimension and encoding.state_dimension == spec.state_dimension
        if sizes and encoding.encoder.startswith(f"{spec.encoder}-"):
            return folder
    return None


def shipped_ranker(encoding: Encoding, among: Path = SHIPPED) -> tuple[Path, RankerSpec, RankerReport] | None:
    """The ranker for an index, verified, as if it had been trained on that index's own encoder.

    Raises ModelDamagedError or ModelMismatchError where its files are not as they came.
    """
    folder = shipped_folder(encoding, among)
    if folder is None:
        return None
    return folder, msgspec.structs.replace(verify_ranker(folder), encoder=encoding.encoder), read_report(folder)
