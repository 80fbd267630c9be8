"""The files of one version, by name, and the small ones' way to disk and back. The build writes them, serving reads
them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from retrieval.errors import StoreDamagedError
from retrieval.fields import FieldCatalog

FIELDS_FILE = "fields.json"
QUALITY_FILE = "quality.json"
QUALITY_PAGE = "quality.html"
"""The quality report for programs and for people."""
SYNONYMS_FILE = "synonyms.txt"
KEYWORD_FOLDER = "keyword"
VECTORS_FOLDER = "vectors"
STATES_FOLDER = "states"
"""The token states of the products, where the encoder gives any: retrieval/token_states.py."""
WORDS_FOLDER = "words"
"""What suggestions and corrections are made of: retrieval/catalog_words.py."""
STANDING_FILE = "standing.jsonl"
"""Live changes that stand in the version although the feed does not say so yet."""
TEXT_KEYS_FILE = "text_keys.npy"
"""For each row the fingerprint of the text that became its vector (n, 16) uint8: equal texts need no second
encoding."""


def write_fields(catalog: FieldCatalog, path: Path) -> None:
    """Writes a catalog's fields as JSON that people can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(catalog, order="sorted"), indent=1))


def read_fields(path: Path) -> FieldCatalog:
    """Reads what `write_fields` wrote; raises StoreDamagedError for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=FieldCatalog)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamagedError(f"{path} cannot be read ({error}); rebuild the index") from error
