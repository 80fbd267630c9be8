"""The manifest of a version and the names of its files, and the marker file of an index directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shelfwise.retrieval.filters.schema import FieldCatalog
from shelfwise.retrieval.index.token_states import TokenStatesInfo
from shelfwise.retrieval.index.vectors import DEFAULT_BACKGROUND, NO_CUTOFF, Background, Cutoff
from shelfwise.retrieval.store.files import text_seal
from shelfwise.retrieval.store.products import DEFAULT_WEIGHTS, FieldWeights

MANIFEST = "manifest.json"


class VersionChanges(msgspec.Struct, frozen=True):
    """The numbers of products that differ from the previous version."""

    previous_version: str
    """The name of that version."""
    added: int = 0
    changed: int = 0
    removed: int = 0


class ClusterLocation(msgspec.Struct, frozen=True):
    """The index of a version in an Elasticsearch cluster; settings say which cluster that is."""

    alias: str
    """The alias of the serving version's index."""
    store: str
    """The id of the index directory."""


class PictureInfo(msgspec.Struct, frozen=True):
    """The pictures of a version, in its manifest."""

    encoder: str
    """Identity of the picture encoder; its files are under encoders/ of the store."""
    encoder_name: str
    """The name as given: a model or a folder."""
    dimension: int
    pictures: int
    """The number of products with a picture."""
    vectors: str
    """The search for the nearest pictures: exact or quantised."""
    background: Background
    """The cosine of titles with pictures of other products, relative to which a query's cosine is measured."""
    failed: Mapping[str, int] = {}
    """The number of pictures that cannot be used, by reason."""
    old: int = 0
    """The number of pictures whose server did not respond; their copy of an earlier rebuild is used."""


class Manifest(msgspec.Struct, frozen=True):
    """The manifest of a version: everything in which versions can differ."""

    schema: int
    version: str
    created: str
    products: int
    catalog: str
    """Fingerprint of all products, ordered by id."""
    analyzer: str
    encoder: str
    """Identity of the encoder that made the vectors; its files are under encoders/ of the store."""
    encoder_name: str
    """The name as given: a model, a folder, or "static:" and the teacher of a table."""
    dimension: int
    vectors: str
    """The search for the nearest vectors: exact or quantised."""
    background: Background = DEFAULT_BACKGROUND
    """The cosine of unrelated products, relative to which similarity is measured."""
    cutoff: Cutoff = NO_CUTOFF
    """The similarity below which nothing fits a query."""
    recipe: str = ""
    """`shelfwise.retrieval.store.products.RECIPE`: the parts of a product that were read."""
    weights: FieldWeights = DEFAULT_WEIGHTS
    """The weights of the fields in the searchable text."""
    report: Mapping[str, Any] = {}
    """Counts of the rebuild: rows read, rejected by reason, encoded, reused, seconds."""
    changes: VersionChanges | None = None
    """The changes from the previous version; None for the first version."""
    last_merged_change: int = 0
    """The last live change that it contains; later ones in the journal are applied in addition."""
    cluster: ClusterLocation | None = None
    """The cluster of its keyword index; None if that is among its own files."""
    states: TokenStatesInfo | None = None
    """Token states; None if the encoder has none."""
    pictures: PictureInfo | None = None
    """Picture index; None if the version was built without a picture model."""
    encoder_origin: str = ""
    """The pretrained model from which the encoder was trained; empty if it was not trained."""


SCHEMA = 1
"""Increased when a version's files change in a way that older programs cannot read."""
MARKER = "shelfwise.json"
EVENTS_FOLDER = "events"
POPULARITY_FILE = "popularity.json"
"""Popularity for the ranker, computed from events: service/events/hot_reload.py."""
RELATIONS_FILE = "relations.bin"
"""Relations for similar and related products, computed from events and texts: service/events/hot_reload.py."""
MEMORY_FILE = "query_memory.bin"
"""Query memory for the ranker, computed from events: service/events/hot_reload.py."""
POPULAR_QUERIES_FILE = "popular_queries.json"
"""Popular queries for suggestions, computed from events: service/engine/query_log.py."""
CURRENT = "CURRENT"


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    xxh3: str = ""


def marker_content() -> bytes:
    """The content of the marker file."""
    return msgspec.json.encode(_Marker(SCHEMA, text_seal(str(SCHEMA))))


def read_marker(path: Path) -> int:
    """The schema in a marker file; raises OSError, or ValueError for damaged content."""
    try:
        marker = msgspec.json.decode(path.read_bytes(), type=_Marker)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if marker.xxh3 not in ("", text_seal(str(marker.schema))):
        raise ValueError("it has another checksum than when it was written")
    return marker.schema


FIELDS_FILE = "fields.json"
QUALITY_FILE = "quality.json"
QUALITY_PAGE = "quality.html"
"""The quality report as a page for people; the other file is for programs."""
SYNONYMS_FILE = "synonyms.txt"
KEYWORD_FOLDER = "keyword"
VECTORS_FOLDER = "vectors"
PICTURES_FOLDER = "pictures"
"""The vectors of the products' pictures, if a picture model was named: retrieval/index/picture_index.py."""
STATES_FOLDER = "states"
"""The token states of the products, if the encoder has any: retrieval/index/token_states.py."""
TYPES_FOLDER = "types"
"""The types of the products: retrieval/text/product_types.py."""
GROUPS_FILE = "groups.npy"
"""The group of each product with its variants and near duplicates, as the first row in it (n,) int32:
indexer/quality/siblings.py."""
WORDS_FOLDER = "words"
"""The vocabulary for suggestions and corrections: retrieval/text/vocabulary.py."""
PENDING_UPDATES_FILE = "pending_updates.jsonl"
"""Live changes that are pending in the version: the feed does not have them."""
TEXT_KEYS_FILE = "text_keys.npy"
"""Fingerprint of the text of each row's vector (n, 16) uint8: equal texts are encoded once."""


def write_fields(catalog: FieldCatalog, path: Path) -> None:
    """Writes a catalog's fields as readable JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(catalog, order="sorted"), indent=1))
