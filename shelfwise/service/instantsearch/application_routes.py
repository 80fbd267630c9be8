"""Routes of the protocol for the whole application: dictionaries, and the log of requests."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import Path, Query, Request
from msgspec import Struct

from shelfwise.retrieval.errors import QueryError
from shelfwise.service.curation.synonyms import Synonym, SynonymKind, validate_synonym
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.context import Contextual, Indexes
from shelfwise.service.http.errors import RequestError
from shelfwise.service.instantsearch.access import (
    BODY,
    LogEntry,
    MayEditSettings,
    MayReadLogs,
    MayReadSettings,
    Payload,
    ProtocolRouter,
    RequestLog,
)
from shelfwise.service.instantsearch.admin_routes import DocumentList, list_documents
from shelfwise.service.instantsearch.curation import Document
from shelfwise.service.instantsearch.object_routes import WriteResult, now_text, published_task
from shelfwise.service.instantsearch.request import JsonObject, flag, objects, text

_MOST_ENTRIES = 1_000
_STOP_WORDS = "stop words have no effect here: frequent words have little weight, and no word is dropped from a search"

router = ProtocolRouter()


class Dictionary(StrEnum):
    """The dictionaries of the protocol."""

    PLURALS = "plurals"
    COMPOUNDS = "compounds"
    STOP_WORDS = "stopwords"


class LogType(StrEnum):
    """A selection of the log."""

    ALL = "all"
    QUERY = "query"
    BUILD = "build"
    ERROR = "error"


class LogList(Struct, frozen=True):
    """The last requests, newest first."""

    logs: list[LogEntry]


DictionaryName = Annotated[Dictionary, Path(description="plurals, compounds or stopwords.")]


@router.post("/dictionaries/{dictionary}/batch", summary="Change a dictionary", openapi_extra=BODY)
def change_dictionary(
    context: Contextual, permit: MayEditSettings, payload: Payload, dictionary: DictionaryName
) -> WriteResult:
    """Plurals are two-way synonyms, compounds one-way ones. Applies all changes or none."""
    requests = objects(payload, "requests", _MOST_ENTRIES)
    if dictionary is Dictionary.STOP_WORDS:
        raise RequestError(400, _STOP_WORDS, field="dictionaryName")
    known = _entries(context.engine, dictionary)
    gone = {each.id for each in known} if flag(payload, "clearExistingDictionaryEntries", default=False) else set()
    put: dict[str, Synonym] = {}
    for number, request in enumerate(requests):
        action, body = text(request, "action"), request.get("body")
        if not isinstance(body, dict) or action not in ("addEntry", "deleteEntry"):
            raise QueryError(
                f"requests[{number}] must have an action, addEntry or deleteEntry, and a body with an objectID"
            )
        if action == "addEntry":
            added = _to_synonym(dictionary, body, number)
            put[added.id] = added
        else:
            name = text(body, "objectID")
            gone |= {each.id for each in known if each.id.rpartition("/")[2] == name}
    kept = {each.id for each in known}
    context.engine.synonyms.put(list(put.values()), gone=sorted((gone & kept) - set(put)), who=permit.id)
    return WriteResult(published_task(context), updated=now_text())


@router.post("/dictionaries/{dictionary}/search", summary="Find entries of a dictionary", openapi_extra=BODY)
def search_dictionary(
    context: Contextual, _permit: MayReadSettings, payload: Payload, dictionary: DictionaryName
) -> DocumentList:
    """The entries of a `language`, or of all languages, with all typed words."""
    language = text(payload, "language")
    documents = map(_to_document, _entries(context.engine, dictionary))
    return list_documents([each for each in documents if language in ("", each["language"])], payload)


@router.get("/dictionaries/*/settings", summary="Settings of the dictionaries")
def dictionary_settings(context: Contextual, _permit: MayReadSettings) -> dict[str, Any]:  # noqa: ARG001
    """This service has no standard dictionary entries that could be disabled."""
    return {"disableStandardEntries": dict.fromkeys(Dictionary)}


@router.put("/dictionaries/*/settings", summary="Change the settings of the dictionaries", openapi_extra=BODY)
def change_dictionary_settings(context: Contextual, _permit: MayEditSettings, payload: Payload) -> WriteResult:
    """Nothing can be disabled; a request that disables nothing has no effect."""
    disabled = payload.get("disableStandardEntries")
    for name, languages in disabled.items() if isinstance(disabled, dict) else ():
        if isinstance(languages, dict) and any(languages.values()):
            message = f"disableStandardEntries.{name[:40]}: this service has no standard entries that could be disabled"
            raise RequestError(400, message, field="disableStandardEntries")
    return WriteResult(published_task(context), updated=now_text())


@router.get("/dictionaries/*/languages", summary="Languages of the dictionaries")
def dictionary_languages(context: Contextual, _permit: MayReadSettings) -> dict[str, Any]:
    """The number of entries of each dictionary, by language."""
    found: dict[str, dict[str, dict[str, int] | None]] = {}
    for dictionary in Dictionary:
        for entry in map(_to_document, _entries(context.engine, dictionary)):
            counts = found.setdefault(entry["language"], dict.fromkeys(Dictionary))
            count = counts[dictionary] or {"nbCustomEntries": 0}
            counts[dictionary] = {"nbCustomEntries": count["nbCustomEntries"] + 1}
    return found


@router.get("/logs", summary="The last requests of the protocol")
def logs(
    indexes: Indexes,  # noqa: ARG001
    request: Request,
    _permit: MayReadLogs,
    offset: Annotated[int, Query(ge=0, le=1_000)] = 0,
    length: Annotated[int, Query(ge=1, le=1_000)] = 10,
    index: Annotated[str, Query(alias="indexName", max_length=500)] = "",
    kind: Annotated[LogType, Query(alias="type")] = LogType.ALL,
) -> LogList:
    """Entries of the last 1,000 requests of this service, in memory: a restart clears the log."""
    log: RequestLog = request.app.state.protocol_log
    found = [
        each
        for each in log.newest()
        if index in ("", each.index)
        and (kind is not LogType.ERROR or each.answer_code >= "4")
        and (kind not in (LogType.QUERY, LogType.BUILD) or each.is_search is (kind is LogType.QUERY))
    ]
    return LogList(found[offset : offset + length])


def _entries(engine: SearchEngine, dictionary: Dictionary) -> list[Synonym]:
    return [each for each in engine.synonyms.list() if each.id.startswith(f"{dictionary}/")]


def _to_synonym(dictionary: Dictionary, body: JsonObject, number: int) -> Synonym:
    place, name, language = f"requests[{number}].body", text(body, "objectID"), text(body, "language")
    if not name or "/" in name or not language.isalpha():
        raise QueryError(f"{place}: an entry must have an objectID without a slash, and a language such as en")
    identity = f"{dictionary}/{language}/{name}"
    field = "words" if dictionary is Dictionary.PLURALS else "decomposition"
    words = body.get(field)
    if not isinstance(words, list) or not words or not all(isinstance(each, str) for each in words):
        raise QueryError(f"{place}.{field} must be a list of words")
    if dictionary is Dictionary.PLURALS:
        return validate_synonym(Synonym(identity, SynonymKind.TWO_WAY, tuple(words)))
    word = text(body, "word")
    return validate_synonym(Synonym(identity, SynonymKind.ONE_WAY, (word,), (" ".join(words),)))


def _to_document(entry: Synonym) -> Document:
    _, language, name = entry.id.split("/", 2)
    document: Document = {"objectID": name, "language": language, "type": "custom"}
    if entry.kind is SynonymKind.TWO_WAY:
        return document | {"words": list(entry.phrases)}
    return document | {"word": entry.phrases[0], "decomposition": entry.to[0].split()}
