"""Lots: which variant a unit sees, drawn by a keyed hash, the same on every machine and after every restart."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from itertools import accumulate

from service.experiments.experiment import Experiment, Unit, Variant

_PARTS = 2**64


def lot(salt: bytes, purpose: str, unit: str) -> float:
    """A number from 0 up to 1, evenly spread over units; those of other salts and purposes have nothing to do with
    it."""
    digest = hmac.digest(salt, f"{purpose}\0{unit}".encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(digest[:8], "big") / _PARTS


def takes_part(experiment: Experiment, salt: bytes, unit: str) -> bool:
    """Whether a unit is of the experiment's share of traffic."""
    return lot(salt, "share", unit) < experiment.share


def variant_of(experiment: Experiment, salt: bytes, unit: str) -> Variant:
    """The variant that a unit sees, each as often as its weight says."""
    return _drawn(experiment.variants, lot(salt, "variant", unit))


def unit_of(experiment: Experiment, shopper: str, session: str, query: str) -> str:
    """What the lot is drawn for; empty where the search does not tell it, and so takes no part. `query` is the text
    with its filters, so that all pages of an answer have one lot."""
    match experiment.unit:
        case Unit.SHOPPER:
            return shopper and f"shopper\0{shopper}"
        case Unit.SESSION:
            return session and f"session\0{session}"
        case Unit.QUERY:
            who = f"shopper\0{shopper}" if shopper else f"session\0{session}" if session else ""
            return who and f"{who}\0{query}"


def _drawn(variants: Sequence[Variant], drawn: float) -> Variant:
    total = sum(variant.weight for variant in variants)
    ends = accumulate(variant.weight for variant in variants)
    return next((variant for variant, end in zip(variants, ends, strict=True) if drawn * total < end), variants[-1])
