"""Commands that query an index: `search`, `query` (suggestions, similar products, pictures, answers) and `answers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.text import Text
from typer import Argument, Option

from shelfwise.retrieval.filters.ast import value_text
from shelfwise.retrieval.records import (
    ChoiceValue,
    Hit,
    Page,
    RangeCount,
    RelatedHit,
    Relation,
    RelationEvidence,
    RelationKind,
)
from shelfwise.retrieval.value_texts import printable
from shelfwise.service.answers.answering import Answer, AnswerStatus, unanswered_questions
from shelfwise.service.answers.subjects import QuestionSubject
from shelfwise.service.cli.options import Filter, Index, SettingsFile, command
from shelfwise.service.cli.output import Cell, Column, emit, price_text, say, show_notices, show_objects, show_rows
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.related import GOES_WITH, RELATED_KINDS
from shelfwise.service.engine.request import STAGES, SearchRequest, parse_history
from shelfwise.service.engine.reranking import UNREAD, unknown_products_warning
from shelfwise.service.engine.spelling import Spans
from shelfwise.service.engine.suggest import Suggestions
from shelfwise.service.settings import load_settings

QueryArgument = Annotated[str, Argument(help="A shopper's query; '' browses all products.", metavar="QUERY")]
SizeOption = Annotated[int, Option("--size", help="How many.")]


@dataclass(frozen=True, slots=True)
class PageOptions:
    """The fields of a `SearchRequest` that select hits."""

    filters: Annotated[str, Option("--filter", help='For example: price < 100 AND brand IN (Bosch, "Max Pro")')] = ""
    size: Annotated[int, Option(help="Hits per page.")] = 10
    page: Annotated[int, Option(help="Page number, from 1.")] = 1


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """The fields of a `SearchRequest` that determine how hits are found, ordered and counted."""

    search_fields: Annotated[
        list[str] | None,
        Option("--in", help="A field that must contain the query's words, such as title. Repeatable.", metavar="FIELD"),
    ] = None
    advanced_syntax: Annotated[
        bool, Option("--advanced-syntax", help='Parse a "quoted phrase" and an excluded -word in the query.')
    ] = False
    contexts: Annotated[
        list[str] | None, Option("--context", help="A context in which rules may apply. Repeatable.", metavar="NAME")
    ] = None
    optional_filters: Annotated[
        list[str] | None,
        Option(
            "--optional-filter",
            help="Filter whose hits rank first; with a leading minus, last. Repeatable.",
            metavar="FILTER",
        ),
    ] = None
    sort: Annotated[str, Option(help="Comma-separated numeric fields; -price; distance(52.5,13.4).")] = ""
    all_types: Annotated[
        bool, Option("--all-types", help="With --sort, also show products of types that the query does not name.")
    ] = False
    stage: Annotated[str, Option(help="bm25, dense, merged or ranked.")] = "ranked"
    group: Annotated[str, Option(help="One hit per group: variants, or a field such as brand.", metavar="FIELD")] = ""
    ranges: Annotated[
        list[str] | None,
        Option(help="A numeric field whose ranges to count: price, or price:0,50,100. Repeatable.", metavar="FIELD"),
    ] = None
    per_group: Annotated[int, Option(help="With --group, maximum number of hits per group.")] = 1
    diversity: Annotated[float, Option(help="Diversity of the first 100 hits, 0 to 1.")] = 0.0
    choices: Annotated[int, Option(help="Number of fields that narrow a broad query, at most 5.")] = 0
    explain: Annotated[
        bool, Option("--explain", help="Show the score of each stage, and the parts of the ranker's score.")
    ] = False
    reasons: Annotated[
        str, Option(help="Show the reasons for each hit's rank in this language: auto, en or zh.", metavar="LANGUAGE")
    ] = ""


def open_engine(index: Path, settings: Path | None = None, *, models: bool = True) -> SearchEngine:
    """Opens the engine of an index, with its search models if `models` is set, and prints its notices."""
    engine = SearchEngine.open(index, settings=load_settings(settings), models=models)
    show_notices(engine.notices)
    return engine


@command('search store "cordless drill" --filter "price < 100" --facet brand --explain')
def search(
    index: Index,
    query: QueryArgument,
    which: PageOptions,
    how: RankingOptions,
    *,
    no_correct: Annotated[bool, Option("--no-correct", help="Do not correct the spelling of the query.")] = False,
    no_rules: Annotated[bool, Option("--no-rules", help="Ignore the store's merchandising rules.")] = False,
    prefix: Annotated[bool, Option("--prefix", help="The last word of the query is still being typed.")] = False,
    facets: Annotated[list[str] | None, Option("--facet", help="A field whose values to count. Repeatable.")] = None,
    history: Annotated[
        str,
        Option(
            help="Earlier acts of this shopper, oldest first: product ids, with :consultation, :cart or :purchase "
            "if it was not a click. For example: 3920564,1187:cart"
        ),
    ] = "",
    settings: SettingsFile = None,
) -> None:
    """Search an index and show the hits."""
    past = parse_history(history)
    with open_engine(index, settings) as engine:
        reads = engine.reads_history or not past
        show_notices(unknown_products_warning(engine.snapshot, past) if reads else (UNREAD,))
        options = {name: value for name, value in (asdict(which) | asdict(how)).items() if value is not None}
        switches = {"correct": not no_correct, "rules": not no_rules, "prefix": prefix} | options
        page = engine.search(SearchRequest(query, facets=facets or (), history=past, **switches))
    emit(page, show_page, query, how.explain)


@command('query suggest store "cord"')
def suggest(
    index: Index,
    text: Annotated[str, Argument(help="The text typed so far; the last word may be incomplete.", metavar="TEXT")],
    size: Annotated[int, Option(help="Maximum number of queries; half as many of each other kind.")] = 8,
    related: Annotated[bool, Option("--related", help="Show queries related to TEXT instead.")] = False,
) -> None:
    """Complete the text typed so far: queries, categories, brands and products."""
    with open_engine(index, models=False) as engine:
        if related:
            emit(engine.related(text, size=size), lambda queries: say("\n".join(map(printable, queries)) or "None."))
        else:
            emit(engine.suggest(text, size=size), show_suggestions)


@command("query similar store 3920564")
def similar(
    index: Index,
    product: Annotated[str, Argument(help="Id of the product.", metavar="PRODUCT")],
    filters: Filter = "",
    size: SizeOption = 10,
    by: Annotated[
        Literal["text", "looks"], Option("--by", help="text: texts and views of the same shoppers; looks: pictures.")
    ] = "text",
    settings: SettingsFile = None,
) -> None:
    """Show the products most similar to a product, by text and views of the same shoppers, or by picture."""
    with open_engine(index, settings) as engine:
        emit(engine.similar(product, size=size, filters=filters, by=by), show_page)


@command("query picture store photo.jpg")
def picture(
    index: Index,
    file: Annotated[Path, Argument(help="A JPEG, PNG, WebP or GIF file.", metavar="FILE")],
    filters: Filter = "",
    size: SizeOption = 10,
    settings: SettingsFile = None,
) -> None:
    """Show the products that look most like a picture."""
    with open_engine(index, settings) as engine:
        emit(engine.search_by_picture(file, size=size, filters=filters), show_page)


@command("query related store 3920564 --kind substitute")
def related(
    index: Index,
    product: Annotated[str, Argument(help="Id of the product.", metavar="PRODUCT")],
    kind: Annotated[str, Option(help=f"{', '.join(RELATED_KINDS)}.")] = GOES_WITH,
    filters: Filter = "",
    size: SizeOption = 10,
    settings: SettingsFile = None,
) -> None:
    """Show complements, accessories or substitutes of a product, with the reason for each."""
    with open_engine(index, settings) as engine:
        emit(engine.relations.of(product, kind=kind, size=size, filters=filters), show_page)


@command("query recommend store --history 3920564,1187:cart")
def recommend(
    index: Index,
    history: Annotated[
        str, Option(help="Acts of a shopper, oldest first, as in shelfwise search; by default none.")
    ] = "",
    filters: Filter = "",
    size: SizeOption = 10,
    include_seen: Annotated[
        bool | None,
        Option("--include-seen/--hide-seen", help="Products of the history; by default as set by recommend.seen."),
    ] = None,
    language: Annotated[
        str, Option(help="Language of the page, such as en; products in others are last.", metavar="CODE")
    ] = "",
    settings: SettingsFile = None,
) -> None:
    """Recommend products to a shopper: by the latest acts of the history, or the most popular ones."""
    past = parse_history(history)
    with open_engine(index, settings) as engine:
        show_notices(unknown_products_warning(engine.snapshot, past))
        options: dict[str, Any] = {"include_seen": include_seen, "language": language}
        emit(engine.recommend(past, size=size, filters=filters, **options), show_page)


@command('query answer store "How long is it?" --product d000275')
def answer(
    index: Index,
    question: Annotated[str, Argument(help="A question, in English or Chinese.", metavar="QUESTION")],
    product: Annotated[
        str, Option("--product", help="Id of the product whose page it is asked on.", metavar="ID")
    ] = "",
    about: Annotated[
        str, Option("--about", help="Id of the product that the previous question was about.", metavar="ID")
    ] = "",
    about_type: Annotated[
        str, Option("--about-type", help="Type of product that the previous question was about.", metavar="TYPE")
    ] = "",
    filters: Filter = "",
) -> None:
    """Answer a question with quotes of the store's own texts and their sources, or report that no text answers it."""
    subject = QuestionSubject(about, about_type)
    with open_engine(index) as engine:
        emit(engine.answer(question, product or None, subject, filters=filters), show_answer)


@command("answers unanswered store")
def unanswered(index: Index, size: Annotated[int, Option(help="Maximum number of questions.", min=1)] = 50) -> None:
    """List questions without an answer, most frequent first: those of at least events.minimum_shoppers shoppers, as
    counted by the last shelfwise events refresh."""
    with open_engine(index) as engine:
        answer = partial(engine.answer, hidden=engine.relevance.served.hidden)
        questions = unanswered_questions(answer, engine.root, size)
    columns: dict[str, Column] = {
        "question": "text",
        "about": lambda each: each.about.title or each.about.product_type,
        "times": "times",
    }
    emit(questions, show_objects, columns, "Every question of enough shoppers has an answer.")


_HOLDS = {True: "Yes: ", False: "No: ", None: ""}


def show_answer(answer: Answer) -> None:
    """Prints the quotes with their sources, and the subject of the question."""
    if answer.status is AnswerStatus.NO_QUESTION:
        say("This reads like a search, not a question. With --product any text is a question about that product.")
        return
    if answer.about.product_id or answer.about.product_type:
        say(f"About {printable(answer.about.title or answer.about.product_type)}", style="dim")
    if answer.status is AnswerStatus.NO_SOURCE:
        say("No text of the store answers it.")
        if answer.nearest:
            say(
                f"Nearest: {printable(answer.nearest.text)}", (f"  [description of {answer.nearest.product_id}]", "dim")
            )
    if answer.disagree:
        say("The store's texts disagree:")
    for quote in answer.quotes:
        source = f"FAQ {quote.entry}" if quote.entry else f"{quote.field} of {quote.product_id}"
        say(f"{_HOLDS[answer.holds]}{printable(quote.text)}", (f"  [{printable(source)}]", "dim"))
    for each in answer.related:
        say(f"Related: {printable(each)}", style="dim")


def show_suggestions(suggestions: Suggestions) -> None:
    """Prints a line for each suggestion, with the typed part in bold."""
    if not suggestions:
        say("No suggestions.")
        return
    if suggestions.corrected:
        say("For ", (printable(suggestions.corrected), "bold"), ": no suggestion begins with the typed text.")
    rows: list[Sequence[Cell]] = [
        *(("query", _marked(each.text, each.spans), each.source.value) for each in suggestions.queries),
        *(("category", _marked(each.text, each.spans), each.count) for each in suggestions.categories),
        *(("brand", _marked(each.name, each.spans), each.count) for each in suggestions.brands),
        *(
            ("product", _marked(each.product.title, each.spans), price_text(each.product))
            for each in suggestions.products
        ),
    ]
    show_rows((), rows)


def _marked(text: str, spans: Spans) -> Text:
    marked = Text(printable(text))
    for start, end in spans:
        marked.stylize("bold", start, end)
    return marked


# A page of hits.

_MIN_CONTRIBUTION = 0.005
"""Smallest contribution that is shown; smaller ones would appear as 0.00."""


def show_page(page: Page, query: str = "", explain: bool = False) -> None:
    """Prints one page of hits; `explain` adds each stage's score and the parts of the ranker's; `query` is as typed."""
    if page.degraded:
        show_notices((f"answered without {', '.join(page.degraded)}",))
    suggestion = (printable(page.suggestion), "bold")
    if page.corrected:
        say("Showing results for ", suggestion, f"; nothing matches {printable(query)}" if query else "")
    elif page.suggestion:
        say("Did you mean ", suggestion, "?")
    if page.redirect:
        say(f"A rule redirects this search to {printable(page.redirect)}")
    if page.rules:
        say(f"rules: {printable(', '.join(page.rules))}", style="dim")
    for each in page.preferred:
        condition = each.filter if len(each.values) < 2 else f"{each.field} {', '.join(each.values[:3])}"
        others = " and others" if len(each.values) > 3 else ""
        say(f"Products with {printable(condition)}{others} come first; use --filter to show only these.")
    if page.product_type:
        say(f"Only products of the type {printable(page.product_type)!r}; use --all-types to show others.")
    if page.hits:
        _show_hits(page, explain=explain)
        counted = "groups" if any(hit.group_size > 1 for hit in page.hits) else "products"
        took = ""
        if spent := page.timings:
            # The retrievers run in parallel, so the slower one counts.
            retrieval = max(spent.get("bm25", 0.0), spent.get("encode", 0.0) + spent.get("dense", 0.0))
            took = f", ranked in {retrieval + spent['merge'] + spent.get('rerank', 0.0):.1f} ms"
        say(f"{page.total:,} {counted}, page {page.page}{took}")
    elif page.size and page.total:
        say(f"No products on page {page.page}; there are {page.total:,}.")
    else:
        say(f"{page.total:,} products." if page.total else "No products.")
    if page.nearest:
        others = "Other near" if page.hits else "Nearest"
        say("Nothing fits the query; the nearest:" if page.nothing_fits else f"{others} products that pass the filter:")
        _show_hits(replace(page, hits=page.nearest, doubtful=False), explain=explain)
    _show_counts(page)


def _show_counts(page: Page) -> None:
    for choice in page.choices:
        say(f"narrow by {printable(choice.field)}: {', '.join(map(_choice_text, choice.values))}")
    for facet in page.facets.values():
        values = ", ".join(f"{printable(str(each.value))} ({each.count:,})" for each in facet.counts[:12])
        is_bounded = facet.minimum is not None and facet.maximum is not None
        bounds = f"{facet.minimum:g} to {facet.maximum:g}; " if is_bounded else ""
        say(f"{facet.field}: {bounds}{values or 'none'}")
    for field, ranges in page.ranges.items():
        say(f"{field}: {', '.join(map(_range_text, ranges)) or 'none'}")


def _show_hits(page: Page, *, explain: bool) -> None:
    if page.doubtful:
        say("No product has all of these words; the nearest in meaning:")
    first = (page.page - 1) * page.size + 1
    rows = (
        (number, _description(hit, explain=explain), price_text(hit.product), hit.product.id)
        for number, hit in enumerate(page.hits, first)
    )
    show_rows(("#", "product", "price", "id"), rows)


def _description(hit: Hit, *, explain: bool) -> Text:
    """The product's name, and lines of notes."""
    title, brand = hit.product.title, hit.product.brand
    name = Text(printable(title if not brand or brand.casefold() in title.casefold() else f"{title} · {brand}"))
    name.append(f" +{hit.group_size - 1:,}" if hit.group_size > 1 else "", "dim")
    name.append("" if hit.distance is None else f" {hit.distance / 1_000:,.1f} km", "dim")
    related = relation_line(hit.relation) if isinstance(hit, RelatedHit) and hit.relation else ""
    parts = hit.explanation.contributions if explain and hit.explanation else ()
    strong = (part for part in parts if abs(part.contribution) >= _MIN_CONTRIBUTION)
    explained = (f"{part.contribution:+5.2f} {part.name}  {printable(part.value)}" for part in strong)
    notes = (printable(hit.reason_line), related, _stages_line(hit) if explain else "", *explained)
    for line in filter(None, notes):
        name.append(f"\n{line}", "dim")
    return name


_REVERSED = {
    RelationKind.ACCESSORY: "has as accessory",
    RelationKind.FITS: "is fitted by",
    RelationKind.PART_OF: "contains",
}


def relation_line(relation: Relation) -> str:
    """A relation as seen from its product: "complement, 12 shoppers, 0.41"."""
    name = _REVERSED[relation.kind] if relation.reverse else relation.kind.value.replace("_", " ")
    support = f"{relation.shoppers:,} shoppers" if relation.shoppers else f"by {relation.evidence.value}"
    of_types = " of both types" if relation.shoppers and relation.evidence is RelationEvidence.TYPES else ""
    return f"{name}, {support}{of_types}, {relation.strength:.2f}"


def _stages_line(hit: Hit) -> str:
    """The score and rank of a hit in each stage: "bm25 16.40 #2, dense 0.701 #5, merged 12.37 #1"."""
    parts = ["exact identifier"] if hit.identifier else []
    if hit.rule:
        parts.append(f"rule {printable(hit.rule)}")
    if hit.propensity is not None:
        parts.append(f"explored, propensity {hit.propensity:.5f}")
    for stage in STAGES:
        score = hit.stages.get(stage)
        if score is not None:
            parts.append(f"{stage} {score.score:.3f}" + (f" #{score.rank}" if score.rank else ""))
    if hit.product_type:
        parts.append(f"type {printable(hit.product_type)}")
    return ", ".join(parts)


def _range_text(each: RangeCount) -> str:
    low, high = ("" if bound is None else f"{bound:,.10g}" for bound in (each.low, each.high))
    bounds = f"{low} to {high}" if low and high else f"from {low}" if low else f"below {high}"
    return f"{bounds} ({each.count:,})"


def _choice_text(each: ChoiceValue) -> str:
    if each.value is None:
        return _range_text(RangeCount(each.low, each.high, each.count, each.filter))
    return f"{printable(value_text(each.value))} ({each.count:,})"
