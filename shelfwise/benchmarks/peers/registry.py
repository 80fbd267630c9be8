"""The peers that can be measured: their start, their modes, and substitutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shelfwise.benchmarks.peers.process import Spec
from shelfwise.rerank.teacher.cross_encoder import find_cross_encoder
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError

_ADAPTERS = "shelfwise.benchmarks.peers.adapters"


@dataclass(frozen=True, slots=True)
class Mode:
    """A way to search a peer: a row of the table."""

    name: str
    label: str
    note: str = ""
    """A substitution, or a speciality of the peer; printed with the figures."""
    note_on_chinese: str = ""
    """The note if most queries are Chinese."""

    @property
    def reranks(self) -> bool:
        """Whether it uses a cross-encoder."""
        return "cross-encoder" in self.name


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, and the ways to search it."""

    name: str
    spec: Spec
    modes: Sequence[Mode]
    vectors: str = ""
    """The mode that searches only vectors, with which filtered recall is measured; empty if there is none."""
    filters: bool = True
    """Whether it supports filters and price changes."""

    @property
    def reranks(self) -> bool:
        """Whether a mode uses a cross-encoder."""
        return any(mode.reranks for mode in self.modes)


OURS = "shelfwise"
_ANALYZER = "terms made outside by the steps of the `english` analyzer, which this build lacks"
_SEGMENTED = "Chinese words by jieba, made outside"
_FUSION = "reciprocal rank fusion outside: it is not free"
_RERANKED = "the cross-encoder outside, over 100 results: `text_similarity_reranker` is not free"
_NOT_FREE = f"{_FUSION}; {_ANALYZER}"
_ON_CHINESE = f"{_FUSION}; {_SEGMENTED}"

PEERS: Mapping[str, Peer] = {
    each.name: each
    for each in (
        Peer(
            OURS,
            Spec(f"{_ADAPTERS}.ours", "Shelfwise"),
            [Mode("served", "Shelfwise", "as served by default, in Python; filtered recall of the vector index alone")],
            vectors="vectors",
        ),
        Peer(
            "elasticsearch",
            Spec(f"{_ADAPTERS}.elasticsearch", "ElasticsearchNode"),
            [
                Mode("words", "Elasticsearch BM25", _ANALYZER, _SEGMENTED),
                Mode("vectors", "Elasticsearch kNN"),
                Mode("hybrid", "Elasticsearch both", _NOT_FREE, _ON_CHINESE),
                Mode(
                    "words-cross-encoder",
                    "Elasticsearch BM25, cross-encoder",
                    f"{_RERANKED}; {_ANALYZER}",
                    f"{_RERANKED}; {_SEGMENTED}",
                ),
                Mode("vectors-cross-encoder", "Elasticsearch kNN, cross-encoder", _RERANKED),
                Mode(
                    "hybrid-cross-encoder",
                    "Elasticsearch both, cross-encoder",
                    f"{_RERANKED}; {_NOT_FREE}",
                    f"{_RERANKED}; {_ON_CHINESE}",
                ),
            ],
            vectors="vectors",
        ),
        Peer(
            "qdrant",
            Spec(f"{_ADAPTERS}.qdrant", "QdrantEdge", "qdrant"),
            [
                Mode(
                    "hybrid",
                    "Qdrant Edge hybrid",
                    "dense and its BM25, merged by its RRF; within the process",
                    "as on English, with its multilingual tokenizer",
                )
            ],
            vectors="vectors",
        ),
        Peer(
            "lancedb",
            Spec(f"{_ADAPTERS}.lancedb", "LanceTable", "lancedb"),
            [
                Mode(
                    "hybrid",
                    "LanceDB hybrid",
                    "its default, RRF; vectors are scanned below 100,000",
                    "its default, RRF; words by its ICU tokenizer; vectors are scanned below 100,000",
                ),
                Mode(
                    "hybrid-cross-encoder",
                    "LanceDB hybrid, cross-encoder",
                    "its CrossEncoderReranker over 100 results of either kind",
                ),
            ],
            vectors="vectors",
        ),
        Peer(
            "milvus",
            Spec(f"{_ADAPTERS}.milvus", "MilvusLite", "milvus"),
            [
                Mode(
                    "hybrid",
                    "Milvus Lite hybrid",
                    "BM25 without a stemmer: Lite has the standard analyzer and jieba alone",
                    "BM25 by its jieba analyzer",
                )
            ],
            vectors="vectors",
        ),
        Peer(
            "sentence-transformers",
            Spec(f"{_ADAPTERS}.reranking", "RetrieveRerank"),
            [Mode("cross-encoder", "retrieve and rerank", "sentence-transformers' recipe, 100 candidates")],
            filters=False,
        ),
        Peer(
            "bm25s",
            Spec(f"{_ADAPTERS}.words", "Bm25s", "bm25s"),
            [Mode("words", "bm25s", note_on_chinese=_SEGMENTED)],
            filters=False,
        ),
        Peer(
            "tantivy",
            Spec(f"{_ADAPTERS}.words", "Tantivy"),
            [Mode("words", "tantivy", "its `en_stem` tokenizer", _SEGMENTED)],
        ),
    )
}


NO_CROSS_ENCODER = "none"


def choose_peers(names: str, cross_encoder: str = "") -> list[Peer]:
    """The peers of these names, separated by commas, ours first; all without names. With "none" as the cross-encoder,
    modes that use one are left out. Raises SettingError for an unknown peer."""
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(PEERS)
    if unknown := [name for name in wanted if name not in PEERS]:
        raise SettingError(f"--peers: {unknown[0]!r} is not a peer; it can be {', '.join(PEERS)}")
    peers = [PEERS[name] for name in dict.fromkeys((OURS, *wanted))]
    if cross_encoder != NO_CROSS_ENCODER:
        return peers
    fewer = [replace(peer, modes=[mode for mode in peer.modes if not mode.reranks]) for peer in peers]
    return [peer for peer in fewer if peer.modes]


def find_reranker(name: str, peers: Sequence[Peer], cache: Path) -> ModelSource | None:
    """The cross-encoder of this name or folder; None if no peer uses one. Raises EncoderUnavailableError if it is
    missing."""
    if not any(peer.reranks for peer in peers):
        return None
    try:
        return find_cross_encoder(name, cache)
    except EncoderUnavailableError as error:
        raise EncoderUnavailableError(str(error).replace("--teacher", "--cross-encoder")) from error
