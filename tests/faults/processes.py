"""Parts of the fault rounds: interrupted processes, their work, a small shop and encoder, the expected state."""

from __future__ import annotations

import dataclasses
import os
import random
import resource
import signal
import string
import sys
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.retrieval.encoders.folder import FORMAT, MODEL_FILE, TOKENIZER_FILE, EncoderSpec, identity_of, write_spec
from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.store.products import product_to_json
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.versions import roll_back
from tests.machine import fork_context

# Minimal real encoders: a graph for ONNX Runtime and a tokenizer, made quickly and without torch.

_UNKNOWN = "?"
_LETTERS = _UNKNOWN + string.ascii_lowercase + string.ascii_uppercase + string.digits
_MAX_LENGTH = 128
_IR_VERSION, _OPSET = 10, 20


def write_encoder(folder: Path, name: str, dimension: int) -> Path:
    """Writes an encoder that maps a text to the mean of its letters' vectors; other names give other vectors."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(list(name.encode()))
    table = rng.standard_normal((len(_LETTERS), dimension)).astype(np.float32)
    onnx.save(_graph(table), folder / MODEL_FILE)
    _tokenizer().save(str(folder / TOKENIZER_FILE))
    identity = identity_of(name, table.tobytes().hex(), "onnx-fp32", _MAX_LENGTH)
    write_spec(EncoderSpec(FORMAT, identity, name, "onnx-fp32", dimension, _MAX_LENGTH), folder)
    return folder


def _tokenizer() -> Tokenizer:
    vocabulary = {letter: number for number, letter in enumerate(_LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return tokenizer


def _graph(table: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> onnx.ModelProto:
    """A graph from ids (batch, tokens) to the means of their rows of the table (batch, dimension)."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["letters"]),
        helper.make_node("ReduceMean", ["letters", "axes"], ["vectors"], keepdims=0),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "axes")]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", table.shape[1]])
    graph = helper.make_graph(nodes, "letters", [ids], [vectors], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


# Processes that do a piece of work and are killed after a time or at a step, or find the disk full.

_STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}
_LONGEST_SECONDS = 60
_NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Interruption:
    """An interruption of a process: a kill after some seconds or at a step, from 1; or a full disk from a step on.

    `room` is the largest size of a file once the disk is full.
    """

    seconds: float = _LONGEST_SECONDS
    fatal_step: int = _NEVER
    full_step: int = _NEVER
    room: int = 0

    def __str__(self) -> str:
        if self.fatal_step < _NEVER:
            return f"killed at step {self.fatal_step}"
        if self.full_step < _NEVER:
            return f"full from step {self.full_step}, with room for files of {self.room} bytes"
        return f"killed after {self.seconds * 1_000:.1f} ms"


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a process: its messages, exit code (0 after complete work), error and resources."""

    messages: tuple[tuple[str, int], ...]
    exit_code: int
    error: str
    seconds: float
    steps: int

    @property
    def hung(self) -> bool:
        return self.seconds >= _LONGEST_SECONDS


def run_interrupted(work: Work, interruption: Interruption) -> Result:
    """Does a piece of work in a process of its own, which is interrupted."""
    context = fork_context()
    listener, teller = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, interruption, teller))
    started = time.monotonic()
    process.start()
    teller.close()
    messages: list[tuple[str, Any]] = []
    is_over = _receive(listener, messages, interruption.seconds)
    seconds = time.monotonic() - started
    if not is_over:
        process.kill()
    process.join()
    _receive(listener, messages, 0)
    known = dict(messages)
    calls = tuple(each for each in messages if each[0] in ("begun", "taken", "refused"))
    return Result(calls, process.exitcode or 0, known.get("error", ""), seconds, known.get("steps", 0))


def _receive(listener: Connection, messages: list[tuple[str, Any]], seconds: float) -> bool:
    """Receives the messages of a process for some seconds; returns whether it ended."""
    until = time.monotonic() + seconds
    try:
        while listener.poll(max(0.0, until - time.monotonic())):
            messages.append(listener.recv())
    except (EOFError, OSError):
        return True
    return False


def _work(work: Work, interruption: Interruption, teller: Connection) -> None:
    steps = _Steps(interruption)
    steps.watch()
    try:
        do(work, teller.send)
    except BaseException as error:
        steps.end()
        teller.send(("error", f"{type(error).__module__}.{type(error).__name__}: {error}"))
        raise SystemExit(1) from None
    finally:
        steps.end()
        teller.send(("steps", steps.count))


class _Steps:
    """Counts the file operations of a process, and interrupts it at the given step."""

    def __init__(self, interruption: Interruption) -> None:
        self.count = 0
        self._interruption = interruption
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def watch(self) -> None:
        sys.addaudithook(self._look)
        for name in ("fsync", "ftruncate"):
            setattr(os, name, self._counted(getattr(os, name)))
        os.pwrite = self._half_written(os.pwrite)

    def end(self) -> None:
        self._interruption = Interruption()
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def _look(self, event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS or (event == "open" and _writes(arguments)):
            self._step()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: object) -> object:
            self._step()
            return call(*arguments)

        return counted

    def _half_written(self, call: Callable[[int, Any, int], int]) -> Callable[[int, Any, int], int]:
        """A write that writes only the first half at the fatal step."""

        def torn(file: int, content: bytes, offset: int) -> int:
            if self.count + 1 == self._interruption.fatal_step:
                call(file, content[: len(content) // 2], offset)
            self._step()
            return call(file, content, offset)

        return torn

    def _step(self) -> None:
        self.count += 1
        if self.count == self._interruption.fatal_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == self._interruption.full_step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self._interruption.room, self._before[1]))


def _writes(arguments: tuple[object, ...]) -> bool:
    flags = arguments[-1]  # of the audit event "open"
    return isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) != 0


# A small shop that changes all the time: its feed before every rebuild, with live changes in between.

PRODUCTS = 200
CALLS = 12
_THINGS = ("cordless drill", "garden hose", "kettle", "floor lamp", "hand saw", "paint roller")
_BRANDS = ("Bosch", "Makita", "Torvald")
_STATES = ("in_stock", "out_of_stock", "preorder", "backorder")
_COLOURS = ("red", "blue", "green", "black")


class Shop:
    """Draws feeds and changes. Titles and prices are unique, so all states of a product differ."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self._counter = 0
        self.feed: Catalog = {f"p{self._count():06d}": self._fields() for _ in range(PRODUCTS)}

    def _count(self) -> int:
        self._counter += 1
        return self._counter

    def _price(self) -> float:
        return 10 + self._count() / 100

    def _title(self) -> str:
        return f"{self.dice.choice(_THINGS)} mk{self._count():06d}"

    def _fields(self) -> Fields:
        dice = self.dice
        values = {"brand": dice.choice(_BRANDS), "availability": dice.choice(_STATES), "colour": dice.choice(_COLOURS)}
        return {"title": self._title(), "price": self._price(), **values}

    def next_feed(self, path: Path) -> Catalog:
        """Writes the next feed: a tenth of the products changed, some removed, some added."""
        feed = dict(self.feed)
        for product_id in self.dice.sample(sorted(feed), len(feed) // 10):
            name, draw = self.dice.choice((("price", self._price), ("title", self._title)))
            feed[product_id] = {**feed[product_id], name: draw()}
        gone = self.dice.randint(0, 3)
        for product_id in self.dice.sample(sorted(feed), gone):
            del feed[product_id]
        feed |= {f"p{self._count():06d}": self._fields() for _ in range(PRODUCTS - len(feed))}
        self.feed = feed
        path.write_bytes(b"".join(product_to_json(product_of(*each)) + b"\n" for each in feed.items()))
        return feed

    def calls(self, catalog: Catalog) -> list[Call]:
        """Live changes to a catalog, each of which changes something if they are applied in this order."""
        drawn = []
        for _ in range(CALLS):
            kinds = ("patch", "patch", "upsert") if len(catalog) < PRODUCTS else ("patch", "patch", "upsert", "delete")
            drawn.append(call := self._call(self.dice.choice(kinds), sorted(catalog)))
            catalog = call.applied(catalog)
        return drawn

    def _call(self, kind: str, ids: list[str]) -> Call:
        if kind == "delete":
            return Call(kind, tuple((product_id, {}) for product_id in self.dice.sample(ids, 2)))
        if kind == "upsert":
            return Call(kind, ((self.dice.choice(ids), self._fields()), (f"p{self._count():06d}", self._fields())))
        values: Fields = {"price": self._price()}
        if self.dice.random() < 0.3:
            values = {"title": self._title(), "colour": self.dice.choice(_COLOURS), **values}
        return Call(kind, ((self.dice.choice(ids), values),))


# The expected state of an index, in plain dictionaries: versions, and every acknowledged change.

Fields = Mapping[str, object]  # A product's fields that the harness changes: title, brand, price, availability, colour
Catalog = dict[str, Fields]  # fields by product id


@dataclass(frozen=True, slots=True)
class Call:
    """One call for a live change: "upsert", "delete" or "patch", with the fields of each of its products."""

    kind: str
    products: tuple[tuple[str, Fields], ...]

    def applied(self, catalog: Catalog) -> Catalog:
        changed = dict(catalog)
        for product_id, fields in self.products:
            match self.kind:
                case "upsert":
                    changed[product_id] = fields
                case "delete":
                    changed.pop(product_id, None)
                case _ if product_id in changed:
                    changed[product_id] = {**changed[product_id], **fields}
        return changed


@dataclass(frozen=True, slots=True)
class Version:
    """A version as built: the feed, the published products, the number of merged changes, the encoder."""

    feed: Catalog
    products: Catalog
    folded: int
    encoder: str


@dataclass(slots=True)
class Truth:
    """The expected state of an index: versions, acknowledged calls, and damaged parts."""

    versions: dict[str, Version] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    current: str = ""  # the version that the pointer names; empty if the pointer is damaged
    damaged: set[str] = field(default_factory=set)  # versions with a damaged file of their own
    damaged_encoders: set[str] = field(default_factory=set)

    @property
    def serving(self) -> str:
        """The version to serve: the current one, else the newest intact one, else one that lacks only its encoder."""
        order = [name for name in (self.current, *sorted(self.versions, reverse=True)) if name in self.versions]
        whole = [name for name in order if name not in self.damaged]
        return next((name for name in whole if not self.lacks_encoder(name)), whole[0])

    @property
    def next_name(self) -> str:
        return f"v{max((int(name[1:]) for name in self.versions), default=0) + 1:06d}"

    @property
    def whole(self) -> list[str]:
        return sorted(self.versions.keys() - self.damaged)

    def lacks_encoder(self, name: str) -> bool:
        return self.versions[name].encoder in self.damaged_encoders

    def served(self, name: str) -> Catalog:
        """The products of a version with all later changes."""
        version = self.versions[name]
        catalog = version.products
        for call in self.calls[version.folded :]:
            catalog = call.applied(catalog)
        return catalog

    def rebuilt(self, feed: Catalog, encoder: str) -> Version:
        """The version that a rebuild of the feed would publish: a live value remains until the feed value changes."""
        before, live = self.versions[self.serving].feed if self.versions else {}, {}
        if self.versions:
            live = self.served(self.serving)
        merged = {each: _merged(before.get(each), live.get(each), feed.get(each)) for each in {*feed, *live}}
        products = {product_id: fields for product_id, fields in merged.items() if fields is not None}
        return Version(feed, products, len(self.calls), encoder)

    def copy(self) -> Truth:
        """An independent copy; versions and calls are shared, since they do not change."""
        own = {each.name: copy(getattr(self, each.name)) for each in dataclasses.fields(self)}
        return Truth(**own)


def _merged(base: Fields | None, live: Fields | None, feed: Fields | None) -> Fields | None:
    if base == feed:
        return live
    if base is None or live is None or feed is None:
        return feed
    return {name: live[name] if base[name] == feed[name] else feed[name] for name in feed}


def product_of(product_id: str, fields: Fields) -> Product:
    return Product(
        product_id,
        str(fields["title"]),
        brand=str(fields["brand"]),
        price=float(str(fields["price"])),
        availability=Availability(str(fields["availability"])),
        attributes={"colour": str(fields["colour"])},
        language="en",
    )


# Kinds of work on an index under fault injection: rebuild, other encoder, live changes, prune, rollback, search.

KEEP = 3
KINDS = ("rebuild", "other encoder", "live changes", "prune", "rollback", "search")
Report = Callable[[tuple[str, int]], None]
"""Receives the state of a call: "begun", "taken" with the number of products, or "refused"."""


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work; fields that its kind does not need are empty."""

    kind: str
    root: Path
    feed: str = ""
    encoder: str = ""
    calls: tuple[Call, ...] = ()
    keep: int = KEEP


def do(work: Work, report: Report) -> None:
    """Does the work; errors of the index are raised."""
    store = Store(work.root)
    match work.kind:
        case "rebuild" | "other encoder":
            cache = work.root.with_name("cache")
            rebuild(work.root, RebuildOptions((work.feed,), cache, encoder=work.encoder, keep=work.keep, workers=1))
        case "live changes":
            _change(work, report)
        case "prune":
            with store.lock("prune"):
                store.prune(work.keep, (store.serving()[0].version,))
        case "rollback":
            with store.lock("rollback"):
                roll_back(store)
        case _:
            with SearchEngine.open(work.root) as engine:
                for query in ("drill", "garden hose", "red kettle", ""):
                    engine.search(query, facets=["brand"])


def _change(work: Work, report: Report) -> None:
    with SearchEngine.open(work.root) as engine:
        for place, call in enumerate(work.calls):
            report(("begun", place))
            try:
                report(("taken", _count_accepted(engine, call)))
            except Exception:
                report(("refused", place))
                raise


def _count_accepted(engine: SearchEngine, call: Call) -> int:
    match call.kind:
        case "upsert":
            return engine.upsert(product_of(*each) for each in call.products).products
        case "delete":
            return engine.delete([product_id for product_id, _ in call.products]).products
        case _:
            ((product_id, fields),) = call.products
            values = {"attributes.colour" if name == "colour" else name: value for name, value in fields.items()}
            return engine.patch(product_id, **values).products
