"""Whether an index is what it must be: it opens, serves a whole version, and has every acknowledged change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.truth import Truth, product_of
from indexer.observing import Silence
from retrieval.errors import ShelfwiseError
from retrieval.product_text import encoder_text
from retrieval.published import Store
from retrieval.records import Product
from service.engine import SearchEngine
from service.verify_store import store_problems
from service.verifying import verify

_SAMPLE = 5
_NAMED = 3


class WrongError(Exception):
    """The index is not what it must be; the message says in what."""


def check_engine(engine: SearchEngine, allowed: Sequence[Truth], dice: random.Random) -> Truth:
    """Which of the allowed truths an engine serves; raises WrongError where it is none of them."""
    served = {hit.product.id: hit.product for hit in engine.search("", size=1_000).hits}
    reasons = []
    for truth in allowed:
        reason = _difference(engine, served, truth)
        if not reason:
            _check_searches(engine, served, truth, dice)
            return truth
        reasons.append(reason)
    raise WrongError("; or ".join(dict.fromkeys(reasons)))


def _difference(engine: SearchEngine, served: dict[str, Product], truth: Truth) -> str:
    version = truth.serving
    if engine.manifest.version != version:
        return f"{engine.manifest.version} serves, not {version} ({'; '.join(engine.notices)})"
    wanted = {each: product_of(each, fields) for each, fields in truth.served(version).items()}
    wrong = sorted(each for each in {*served, *wanted} if served.get(each) != wanted.get(each))
    if not wrong:
        return ""
    shown = "; ".join(f"{each} is {served.get(each)}, not {wanted.get(each)}" for each in wrong[:_NAMED])
    return f"{version} with {len(truth.calls)} live calls: {len(wrong)} products are wrong: {shown} ({engine.notices})"


def _check_searches(engine: SearchEngine, served: dict[str, Product], truth: Truth, dice: random.Random) -> None:
    words_only = truth.lacks_encoder(truth.serving)
    for product in dice.sample(sorted(served.values(), key=lambda each: each.id), _SAMPLE):
        page = engine.search(product.title, size=_SAMPLE, correct=False)
        if not page.hits or page.hits[0].product != product:
            raise WrongError(f"{product.id} is not the first hit of its own title {product.title!r}")
        if page.degraded != (("dense",) if words_only else ()):
            raise WrongError(f"the page says that {page.degraded} failed, in {truth.serving}")
        found = engine.search("", filters=f"price = {product.price}").hits
        if [hit.product.id for hit in found] != [product.id]:
            raise WrongError(f"the filter price = {product.price} finds {[hit.product.id for hit in found]}")
        if not words_only and product.id not in _nearest(engine, product):
            raise WrongError(f"{product.id} is not among the nearest to its own text")


def _nearest(engine: SearchEngine, product: Product) -> set[str]:
    """The products whose vectors are those of a product's text."""
    hits = engine.search(encoder_text(product), stage="dense", size=_SAMPLE, correct=False).hits
    return {hit.product.id for hit in hits if hit.score > 0.9999}


def check_index(root: Path, allowed: Sequence[Truth], dice: random.Random) -> tuple[Truth, tuple[str, ...]]:
    """Opens an index; returns which of the allowed truths it serves, and its notices."""
    try:
        with SearchEngine.open(root) as engine:
            return check_engine(engine, allowed, dice), engine.notices
    except WrongError:
        raise
    except Exception as error:
        raise WrongError(f"it does not open and search: {type(error).__name__}: {error}") from error


def check_verified(root: Path) -> None:
    """Raises WrongError where `shelfwise verify` finds a problem in what serves."""
    store = Store(root)
    try:
        problems = [*store_problems(store), *verify(store, store.current(), Silence()).problems]
    except ShelfwiseError as error:
        raise WrongError(f"it cannot be verified: {error}") from error
    if problems:
        raise WrongError("; ".join(f"verify: {each.part}: {each.what}" for each in problems))
