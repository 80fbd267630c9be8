"""The rankers that come with the program, for stores that have trained none: features heads, one for each encoder that
has one, distilled on several stores' catalogs at once (`shelfwise train default`, docs/rankers.md)."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rerank.ranker.spec import Encoding, RankerReport, RankerSpec, read_report, read_spec, verified

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

    Raises RankerDamagedError or RankerForeignError where its files are not as they came.
    """
    folder = shipped_folder(encoding, among)
    if folder is None:
        return None
    return folder, msgspec.structs.replace(verified(folder), encoder=encoding.encoder), read_report(folder)
