"""An MCP server over stdio: read-only tools with which an AI assistant searches an index.

Protocol: https://modelcontextprotocol.io/specification. The tools are described in docs/integrations.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from fastapi.exceptions import RequestValidationError
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import Field, ValidationError

from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.records import Choice, Facet, Hit, Page, Product
from shelfwise.service.answers.answering import Answer
from shelfwise.service.answers.questions import load_questions
from shelfwise.service.answers.subjects import QuestionSubject
from shelfwise.service.curation.relevance import without_fields
from shelfwise.service.http.errors import to_request_error
from shelfwise.service.http.schemas import (
    Name,
    ProductId,
    RecommendBody,
    RelatedKind,
    RequestBody,
    ReturnedFields,
    SelectedProduct,
    encode,
)

if TYPE_CHECKING:
    from shelfwise.service.engine.engine import SearchEngine

_MAX_HITS = 50
_MAX_PAGE = 100
_MAX_TEXT = 1_000
_MAX_FIELDS = 10
_MAX_VALUES = 100
_MAX_LISTED = 200
_CHOICES = 3
_FILTERS = "A filter, such as: price < 100 AND brand IN (Bosch, Makita) AND NOT availability = out_of_stock"
_INSTRUCTIONS = (
    "Searches the catalog of a web store. Call facets without arguments once to list the fields for filters. "
    "Refer to products by title and price for people, and by id for these tools."
)


class Arguments(RequestBody):
    """Products to choose from."""

    filters: str = Field("", max_length=2_000, description=_FILTERS)


class ListArguments(Arguments):
    """A list of products."""

    size: int = Field(10, ge=1, le=_MAX_HITS, description="Maximum number of products.")


class SearchArguments(ListArguments):
    """A search."""

    query: str = Field("", max_length=_MAX_TEXT, description="A shopper's query; empty for all products.")
    page: int = Field(1, ge=1, le=_MAX_PAGE, description="Page number, from 1.")
    sort: Name = Field("", description='Numeric field to sort by, "-" before it for descending; else relevance.')
    facets: list[Name] = Field([], max_length=_MAX_FIELDS, description="Fields whose values to count over all hits.")


class FacetsArguments(Arguments):
    """Fields to count."""

    fields: list[Name] = Field([], max_length=_MAX_FIELDS, description="Fields to count; empty lists all fields.")
    query: str = Field("", max_length=_MAX_TEXT, description="Count only the hits of this query.")
    values: int = Field(20, ge=1, le=_MAX_VALUES, description="Maximum number of values of a field.")


class ProductArguments(RequestBody):
    """One product."""

    id: ProductId = Field(description="Id of the product, as in a hit.")


class SimilarArguments(ListArguments, ProductArguments):
    """Products similar to one."""


class RelatedArguments(SimilarArguments):
    """Products related to one."""

    kind: RelatedKind = Field(
        "goes_with", description="goes_with: complements, accessories, fitting products, parts; substitute: others."
    )


class AnswerArguments(RequestBody):
    """A question."""

    question: str = Field(min_length=1, max_length=_MAX_TEXT, description="A question of a shopper.")
    product_id: str = Field("", max_length=_MAX_TEXT, description="Id of the product that it is about.")
    about_type: Name = Field("", description="Type of product that it is about.")


class RecommendArguments(RecommendBody):
    """A shopper, for whom to recommend products."""

    size: int = Field(10, ge=1, le=_MAX_HITS, description="Maximum number of products.")


_SUMMARY = ReturnedFields(("title", "brand", "category", "price", "currency", "availability", "rating", "rating_count"))
"""The fields of a product that, besides its id, distinguish it in a list."""


@dataclass(frozen=True, slots=True)
class ProductList:
    """The hits of a tool."""

    total: int
    """Number of hits on all pages."""
    hits: Sequence[Product | SelectedProduct]
    nearest: Sequence[Product | SelectedProduct] = ()
    """Other products close in meaning, if there are no or few hits."""
    searched_for: str = ""
    """The correction that was searched for instead of a misspelled query."""
    facets: Mapping[str, Facet] = field(default_factory=dict)
    choices: Sequence[Choice] = ()
    """Fields that narrow a broad query best; each value has its filter and number of hits."""
    incomplete: Sequence[str] = ()
    """Stages of the search that failed."""


@dataclass(frozen=True, slots=True)
class CatalogField:
    """A field for filters and facets."""

    name: str
    kinds: Sequence[str]
    products: int
    """Number of products that have it."""


@dataclass(frozen=True, slots=True)
class FieldList:
    """The fields of a catalog, most frequent first."""

    total: int
    fields: Sequence[CatalogField]


class CatalogTools:
    """The tools over one engine. Products lack the fields that relevance settings hide."""

    def __init__(self, engine: SearchEngine) -> None:
        self._engine = engine

    def search(self, given: SearchArguments) -> ProductList:
        """Search products by words, filters and sort order. Hits have id, title, brand, category, price, availability
        and rating; call product for the rest."""
        options: Mapping[str, Any] = {"filters": given.filters, "sort": given.sort, "facets": given.facets}
        choices = _CHOICES if given.page == 1 else 0
        return self._list(
            self._engine.search(given.query, size=given.size, page=given.page, choices=choices, **options)
        )

    def facets(self, given: FacetsArguments) -> Mapping[str, Facet] | FieldList:
        """List the fields of the catalog with their kinds or, with fields, count the values of these over all hits of a
        query and a filter. Use the returned names and values in filters."""
        if given.fields:
            options: Mapping[str, Any] = {"facets": given.fields, "facet_values": given.values}
            return self._engine.search(given.query, size=0, filters=given.filters, **options).facets
        known = sorted(self._engine.snapshot.catalog.fields.values(), key=lambda each: (-each.products, each.name))
        listed = [CatalogField(each.name, sorted(each.kinds), each.products) for each in known if each.products]
        return FieldList(len(listed), listed[:_MAX_LISTED])

    def product(self, given: ProductArguments) -> Product:
        """Get all fields of one product: description, attributes, identifiers, pictures, variants."""
        return without_fields(self._engine.product(given.id), self._engine.relevance.served.hidden)

    def similar(self, given: SimilarArguments) -> ProductList:
        """Find the products most similar to a product."""
        return self._list(self._engine.similar(given.id, size=given.size, filters=given.filters))

    def related(self, given: RelatedArguments) -> ProductList:
        """Find the products that go with a product (complements, accessories, fitting products, parts), or that
        shoppers choose instead of it."""
        page = self._engine.relations.of(given.id, kind=given.kind, size=given.size, filters=given.filters)
        return self._list(page)

    def recommend(self, given: RecommendArguments) -> ProductList:
        """Recommend products for a shopper by past views, carts and purchases, oldest first; without a history, the
        most popular products."""
        history = [each.to_past_act() for each in given.history]
        options: Mapping[str, Any] = {
            "filters": given.filters,
            "include_seen": given.include_seen,
            "language": given.language,
        }
        return self._list(self._engine.recommend(history, size=given.size, **options))

    def answer(self, given: AnswerArguments) -> Answer:
        """Answer a question about a product, a type of product or the store with quotes of the store's own texts and
        their source. If the status is not_said, no text answers it: report that, and do not guess; `nearest` is the
        sentence of the description with the most similar meaning, which may not answer it."""
        hidden = self._engine.relevance.served.hidden
        about = QuestionSubject(product_type=given.about_type)
        return self._engine.answer(given.question, given.product_id or None, about, hidden=hidden)

    def _list(self, page: Page) -> ProductList:
        return ProductList(
            page.total,
            self._summaries(page.hits),
            self._summaries(page.nearest),
            page.suggestion if page.corrected else "",
            page.facets,
            page.choices,
            page.degraded,
        )

    def _summaries(self, hits: Sequence[Hit]) -> list[Product | SelectedProduct]:
        hidden = self._engine.relevance.served.hidden
        return [_SUMMARY.select(without_fields(hit.product, hidden)) for hit in hits]


def catalog_server(engine: SearchEngine) -> Server[Any]:
    """An MCP server with the tools search, facets, product, similar, related, recommend and answer over an engine.

    An invalid argument, and any other ShelfwiseError, is a result with `is_error` and a message that names the
    argument; an unknown tool is a protocol error.
    """
    tools = CatalogTools(engine)
    table: Mapping[str, tuple[type[RequestBody], Callable[[Any], object]]] = {
        "search": (SearchArguments, tools.search),
        "facets": (FacetsArguments, tools.facets),
        "product": (ProductArguments, tools.product),
        "similar": (SimilarArguments, tools.similar),
        "related": (RelatedArguments, tools.related),
        "recommend": (RecommendArguments, tools.recommend),
        "answer": (AnswerArguments, tools.answer),
    }

    async def list_tools(_: ServerRequestContext[Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        reading = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
        return ListToolsResult(
            tools=[
                Tool(
                    name=name,
                    description=" ".join((run.__doc__ or "").split()),
                    input_schema=arguments.model_json_schema(),
                    annotations=reading,
                )
                for name, (arguments, run) in table.items()
            ]
        )

    async def call_tool(_: ServerRequestContext[Any], params: CallToolRequestParams) -> CallToolResult:
        if params.name not in table:
            message = f"there is no tool {params.name[:100]!r}; the tools are {', '.join(table)}"
            raise MCPError(INVALID_PARAMS, message)
        arguments, run = table[params.name]
        try:
            given = arguments.model_validate(params.arguments or {})
            encoded = encode(await anyio.to_thread.run_sync(partial(run, given)))
        except ValidationError as error:
            faults = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            refused = to_request_error(RequestValidationError(faults))
            known = ", ".join(arguments.model_fields)
            return _refusal(
                refused.message + (f"; the arguments are {known}" if refused.code == "unknown_field" else "")
            )
        except ShelfwiseError as error:
            return _refusal(str(error))
        text = TextContent(type="text", text=encoded.decode())
        return CallToolResult(content=[text], structured_content=msgspec.json.decode(encoded))

    return Server(
        "shelfwise",
        version=version("shelfwise"),
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _refusal(message: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True)


def _warm_up(engine: SearchEngine) -> None:
    """Loads what the first question and the first search would wait for, unless there are no file descriptors."""
    with suppress(ShelfwiseError, OSError, ImportError):
        load_questions()
        engine.search("a first search", size=1)


def serve_stdio(engine: SearchEngine) -> None:
    """Answers the client on standard input and output until it closes them."""
    server = catalog_server(engine)
    # In the background, while the client reads the list of tools.
    threading.Thread(target=_warm_up, args=(engine,), name="warm-up", daemon=True).start()

    async def run() -> None:
        async with stdio_server() as (received, sent):
            await server.run(received, sent, server.create_initialization_options())

    anyio.run(run)
