"""Routes of the protocol about settings, rules and synonyms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from msgspec import Struct
from msgspec.structs import replace

from shelfwise.retrieval.errors import RuleError, SynonymError
from shelfwise.service.engine.editors import DocumentEditor
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.context import ServiceContext
from shelfwise.service.http.errors import RequestError
from shelfwise.service.instantsearch.access import (
    BODY,
    LIST_BODY,
    Contextual,
    Index,
    Items,
    MayAdminister,
    ObjectId,
    Payload,
    ProtocolRouter,
    Stored,
    Writable,
    check_index,
    check_writable,
)
from shelfwise.service.instantsearch.curation import (
    Document,
    RuleTranslator,
    parse_synonym,
    rule_document,
    synonym_document,
)
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator
from shelfwise.service.instantsearch.index_store import ProtocolStore
from shelfwise.service.instantsearch.object_routes import WriteResult, now_text, published_task
from shelfwise.service.instantsearch.request import JsonObject, flag, integer, text
from shelfwise.service.instantsearch.settings import read_settings, write_settings

_MOST_SHOWN = 1_000
_DEFAULT_SHOWN = 20

T = TypeVar("T")
Replaces = Annotated[bool, Query(alias="clearExistingRules", description="Whether to delete all other rules.")]
ReplacesSynonyms = Annotated[
    bool, Query(alias="replaceExistingSynonyms", description="Whether to delete all other synonyms.")
]

router = ProtocolRouter()


class DocumentList(Struct, frozen=True, rename="camel"):
    """Rules or synonyms, ordered by id."""

    hits: list[Document]
    nb_hits: int
    page: int
    nb_pages: int


@dataclass(frozen=True, slots=True)
class IndexEdit:
    """A change of the data of an index, by an authorized key."""

    context: ServiceContext
    index: str
    who: str

    def check(self, *, allows_replica: bool = False) -> None:
        """Raises RequestError for the name of another index, of a replica, whose rules are those of its primary, or of
        a temporary index, whose products get the settings of the index to which they are moved."""
        if self.context.companion(ProtocolStore).is_temporary(self.index):
            message = f"{self.index[:100]!r} is a temporary index, which uses the settings of the index itself"
            raise RequestError(400, message)
        if not (allows_replica and self.context.companion(ProtocolStore).settings.view(self.index)):
            check_writable(self.context, self.index)

    def put(self, editor: DocumentEditor[Any], documents: Iterable[Any], gone: Iterable[str] = ()) -> WriteResult:
        """Adds or replaces rules or synonyms, all or none, and deletes the ids in `gone`."""
        self.check()
        editor.put(list(documents), gone=gone, who=self.who)
        return replace(self.done(), updated=now_text())

    def delete(self, editor: DocumentEditor[Any], name: str) -> WriteResult:
        """Deletes a rule or a synonym; raises RequestError (404) if it does not exist."""
        self.check()
        _known(lambda each: editor.delete([each], who=self.who), name)
        return self.done()

    def done(self) -> WriteResult:
        """The result of a change."""
        stored = self.context.companion(ProtocolStore)
        if not stored.settings.view(self.index):
            stored.adopt_name(self.index)
        return WriteResult(published_task(self.context))


async def _edit_of(context: Contextual, permit: MayAdminister, index: Index) -> IndexEdit:
    return IndexEdit(context, index, permit.id)


MayEdit = Annotated[IndexEdit, Depends(_edit_of)]


@router.get("/indexes/{index}/settings", summary="The settings")
def settings(context: Contextual, _permit: MayAdminister, stored: Stored, index: Index) -> dict[str, Any]:
    """The current settings, by their names in the protocol."""
    check_index(context, index)
    return read_settings(context.engine, stored, index)


@router.put("/indexes/{index}/settings", summary="Change settings", openapi_extra=BODY)
def put_settings(
    context: Writable,
    permit: MayAdminister,
    stored: Stored,
    payload: Payload,
    index: Index,
    forwards: Annotated[bool, Query(alias="forwardToReplicas", description="Whether replicas get them, too.")] = False,
) -> WriteResult:
    """Omitted settings are unchanged. `message` names what was not applied."""
    edit, views = IndexEdit(context, index, permit.id), stored.settings.views
    edit.check(allows_replica=True)
    notes = write_settings(context.engine, stored, payload, who=edit.who, index=index)
    of_replicas = {name: value for name, value in payload.items() if name != "replicas"}
    for each in views if forwards and index not in views else ():
        write_settings(context.engine, stored, of_replicas, who=edit.who, index=each)
    return replace(edit.done(), updated=now_text(), message="; ".join(notes))


@router.post("/indexes/{index}/rules/batch", summary="Add or replace rules", openapi_extra=LIST_BODY)
def save_rules(context: Contextual, edit: MayEdit, items: Items, clear: Replaces = False) -> WriteResult:
    """Stores all rules or none."""
    return _put_rules(context, edit, items, clear=clear)


@router.post("/indexes/{index}/rules/search", summary="Find rules", openapi_extra=BODY)
def search_rules(context: Contextual, _permit: MayAdminister, payload: Payload, index: Index) -> DocumentList:
    """Rules with all typed words, with conditions of an `anchoring`, and that are `enabled` or not."""
    check_index(context, index)
    anchoring = text(payload, "anchoring")
    found = [rule for rule in _rules(context.engine) if not anchoring or _anchoring_of(rule) == anchoring]
    if payload.get("enabled") is not None:
        found = [rule for rule in found if rule["enabled"] is flag(payload, "enabled", default=True)]
    return _listed(found, payload)


@router.post("/indexes/{index}/rules/clear", summary="Delete all rules")
def clear_rules(context: Contextual, edit: MayEdit) -> WriteResult:
    """Rules that the protocol cannot express are kept."""
    return _put_rules(context, edit, [], clear=True)


@router.get("/indexes/{index}/rules/{rule_id:path}", summary="One rule")
def rule(context: Contextual, _permit: MayAdminister, index: Index, rule_id: ObjectId) -> Document:
    """A rule as it was sent, without what has no effect."""
    check_index(context, index)
    document = rule_document(_known(context.engine.rules.get, rule_id))
    if document is None:
        raise RequestError(404, f"the rule {rule_id!r} cannot be expressed in the protocol; see /v1/rules")
    return document


@router.put("/indexes/{index}/rules/{rule_id:path}", summary="Add a rule", openapi_extra=BODY)
def save_rule(context: Contextual, edit: MayEdit, payload: Payload, rule_id: ObjectId) -> WriteResult:
    """Adds a rule, or replaces the one with its id."""
    return _put_rules(context, edit, [{**payload, "objectID": rule_id}])


@router.delete("/indexes/{index}/rules/{rule_id:path}", summary="Delete a rule")
def delete_rule(context: Contextual, edit: MayEdit, rule_id: ObjectId) -> WriteResult:
    """The rule stays in the history and can be restored."""
    return replace(edit.delete(context.engine.rules, rule_id), updated=now_text())


@router.post("/indexes/{index}/synonyms/batch", summary="Add or replace synonyms", openapi_extra=LIST_BODY)
def save_synonyms(context: Contextual, edit: MayEdit, items: Items, replaces: ReplacesSynonyms = False) -> WriteResult:
    """Stores all synonyms or none."""
    return _put_synonyms(context, edit, items, clear=replaces)


@router.post("/indexes/{index}/synonyms/search", summary="Find synonyms", openapi_extra=BODY)
def search_synonyms(context: Contextual, _permit: MayAdminister, payload: Payload, index: Index) -> DocumentList:
    """Synonyms with all typed words, of the types that `type` lists."""
    check_index(context, index)
    types = {each.strip().lower() for each in text(payload, "type").split(",") if each.strip()}
    found = map(synonym_document, context.engine.synonyms.list())
    return _listed([each for each in found if not types or each["type"] in types], payload)


@router.post("/indexes/{index}/synonyms/clear", summary="Delete all synonyms")
def clear_synonyms(context: Contextual, edit: MayEdit) -> WriteResult:
    """Synonyms that the version was built with are kept."""
    return _put_synonyms(context, edit, [], clear=True)


@router.get("/indexes/{index}/synonyms/{synonym_id:path}", summary="One synonym")
def synonym(context: Contextual, _permit: MayAdminister, index: Index, synonym_id: ObjectId) -> Document:
    """A synonym as it was sent."""
    check_index(context, index)
    return synonym_document(_known(context.engine.synonyms.get, synonym_id))


@router.put("/indexes/{index}/synonyms/{synonym_id:path}", summary="Add a synonym", openapi_extra=BODY)
def save_synonym(context: Contextual, edit: MayEdit, payload: Payload, synonym_id: ObjectId) -> WriteResult:
    """Adds a synonym, or replaces the one with its id."""
    return replace(_put_synonyms(context, edit, [{**payload, "objectID": synonym_id}]), id=synonym_id)


@router.delete("/indexes/{index}/synonyms/{synonym_id:path}", summary="Delete a synonym")
def delete_synonym(context: Contextual, edit: MayEdit, synonym_id: ObjectId) -> WriteResult:
    """The synonym stays in the history."""
    return replace(edit.delete(context.engine.synonyms, synonym_id), deleted=now_text())


def _rules(engine: SearchEngine) -> list[Document]:
    return [document for each in engine.rules.list() if (document := rule_document(each)) is not None]


def _put_rules(
    context: ServiceContext, edit: IndexEdit, documents: Iterable[JsonObject], *, clear: bool = False
) -> WriteResult:
    engine = context.engine
    translator = RuleTranslator(FilterTranslator(AttributeCatalog(engine.snapshot.catalog)))
    gone = [each["objectID"] for each in _rules(engine)] if clear else ()
    written = edit.put(engine.rules, map(translator.rule, documents), gone)
    return replace(written, message="; ".join(translator.notes))


def _put_synonyms(
    context: ServiceContext, edit: IndexEdit, documents: Iterable[JsonObject], *, clear: bool = False
) -> WriteResult:
    editor = context.engine.synonyms
    return edit.put(editor, map(parse_synonym, documents), [each.id for each in editor.list()] if clear else ())


def _anchoring_of(document: Document) -> str:
    return next((condition.get("anchoring", "") for condition in document["conditions"]), "")


def _known(find: Callable[[str], T], name: str) -> T:
    """The result of a lookup by id; raises RequestError (404) if there is none."""
    try:
        return find(name)
    except (RuleError, SynonymError) as error:
        raise RequestError(404, str(error)) from error


def _listed(documents: Sequence[Document], payload: JsonObject) -> DocumentList:
    """A page of the documents that have all words of the query in one of their texts."""
    words = text(payload, "query").lower().split()
    size = integer(payload, "hitsPerPage", _DEFAULT_SHOWN, 1, _MOST_SHOWN)
    page = integer(payload, "page", 0, 0, 10**6)
    found = [each for each in documents if all(word in " ".join(_texts(each)).lower() for word in words)]
    return DocumentList(found[page * size : (page + 1) * size], len(found), page, -(-len(found) // size))


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(each)
