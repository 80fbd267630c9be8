"""What a cluster's answers mean where they are none: the error for each, with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retrieval.errors import ClusterError, ClusterRefusedError, ClusterUnavailableError

OLDEST_SERVER = (8, 19)
BUSY = 429
_FLOOD = "read-only-allow-delete"


def check_whole(answer: Mapping[str, Any]) -> None:
    """Raises for an answer from a part of the shards: it would miss documents in silence."""
    if "error" in answer:
        status = int(answer.get("status", 500))
        raise refused("Elasticsearch", reason_of(answer), status)
    if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
        raise ClusterUnavailableError("Elasticsearch answers from a part of its shards only")


def refused(place: str, reason: str, status: int) -> ClusterError:
    """The error for a status: what to do stands in its message."""
    is_full = _FLOOD in reason  # with the status of one that is busy, and waiting does not help
    if not is_full and (status in (408, BUSY) or status >= 500):
        return ClusterUnavailableError(f"{place} cannot answer now ({status}): {reason}")
    cure = ""
    if status == 401:
        cure = "; see to elasticsearch.username and elasticsearch.password, or elasticsearch.api_key"
    elif is_full:
        cure = "; its disk is nearly full, so it only lets indexes be deleted: make room on it"
    elif "block" in reason and status == 403:
        cure = "; the index or the cluster is read-only: lift its block"
    elif status == 403:
        cure = "; give this user the right to it"
    elif status == 406 or "media_type_header" in reason:
        cure = f"; the server is too old, {'.'.join(map(str, OLDEST_SERVER))} or newer is needed"
    return ClusterRefusedError(f"{place} refuses ({status}): {reason.rstrip('; ')}{cure}")


def reason_of(body: object) -> str:
    """What an error's body says, in a line."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        causes = error.get("root_cause") or [error]
        cause = error.get("caused_by") or {}
        told = [str(each.get("reason") or each.get("type")) for each in causes[:1]]
        if cause.get("reason"):
            told.append(str(cause["reason"]))
        return shortened(": ".join(dict.fromkeys(told)))
    return shortened(str(error))


def shortened(text: str, most: int = 300) -> str:
    """A text in one line, cut off where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
