"""What every page promises, under whatever rules: against a simple reading of them, product by product."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.records import Page, Product
from service.curation.rules import Action, Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, When
from service.engine.engine import SearchEngine

ALL = 600
PASSES: dict[str, Callable[[Product], bool]] = {
    "price < 40": lambda product: product.price is not None and product.price < 40,
    "NOT price < 100": lambda product: product.price is None or product.price >= 100,
    "availability = in_stock": lambda product: product.availability == "in_stock",
    "language = en": lambda product: product.language == "en",
}
QUERIES = ("drill", "cordless drill", "red mug 350ml", "耳机", "")
PRODUCTS = st.lists(st.integers(0, ALL + 5).map("d{:06}".format), min_size=1, max_size=4, unique=True).map(tuple)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Pin, PRODUCTS, st.integers(1, 40)),
    st.builds(Boost, st.sampled_from([*PASSES]), st.floats(0.1, 5)),
    st.builds(Bury, st.sampled_from([*PASSES]), st.floats(0.1, 5)),
    st.builds(Hide, PRODUCTS, st.sampled_from(["", *PASSES])),
    st.builds(Restrict, st.sampled_from([*PASSES])),
    st.builds(Redirect, st.sampled_from(["/a", "/b"])),
)
WHENS = st.sampled_from(
    [
        When(),
        When("drills", Match.CONTAINS),
        When("cordless drill", Match.EXACT),
        When("mug", Match.CONTAINS),
        When(filters="price < 40"),
    ]
)
RULES = st.lists(st.tuples(st.lists(ACTIONS, min_size=1, max_size=2).map(tuple), WHENS, st.integers(0, 1)), max_size=4)


def rules_of(drawn: list[tuple[tuple[Action, ...], When, int]]) -> list[Rule]:
    return [Rule(f"r{number}", actions, when, priority=first) for number, (actions, when, first) in enumerate(drawn)]


def ids(page: Page) -> list[str]:
    return [hit.product.id for hit in page.hits]


def holding(rules: list[Rule], query: str, filters: str) -> list[Rule]:
    """Those that a search matches, in the order in which they speak."""
    met = {"": True, "drills": "drill" in query, "cordless drill": query == "cordless drill", "mug": "mug" in query}
    matched = [rule for rule in rules if met[rule.when.query] and rule.when.filters in ("", filters)]
    return sorted(matched, key=lambda rule: (-rule.priority, rule.id))


def may_be_shown(rules: list[Rule], product: Product, filters: str) -> bool:
    actions = [action for rule in rules for action in rule.actions]
    hidden = any(
        product.id in action.products or (action.filters != "" and PASSES[action.filters](product))
        for action in actions
        if isinstance(action, Hide)
    )
    kept = all(PASSES[action.filters](product) for action in actions if isinstance(action, Restrict))
    return not hidden and kept and (not filters or PASSES[filters](product))


def with_pins(others: list[str], rules: list[Rule], shown: set[str]) -> list[str]:
    places: dict[int, str] = {}
    for action in (action for rule in rules for action in rule.actions if isinstance(action, Pin)):
        for place, product in enumerate(action.products, action.position):
            if product in shown and product not in places.values():
                places[next(free for free in range(place, 9_999) if free not in places)] = product
    order: list[str] = []
    while others or places:
        if len(order) + 1 in places or not others:
            order.append(places.pop(min(places)))
        else:
            order.append(others.pop(0))
    return order


@settings(max_examples=50)
@given(RULES, st.sampled_from(QUERIES), st.sampled_from(["", *PASSES]), st.integers(40, 300))
def test_every_page_keeps_what_it_promises(
    engine: SearchEngine, drawn: list[tuple[tuple[Action, ...], When, int]], query: str, filters: str, size: int
) -> None:
    rules = rules_of(drawn)
    matched = holding(rules, query, filters)
    whole = engine.search(query, size=ALL, filters=filters, rules=rules, facets=["availability", "brand"])
    assert whole.rules == tuple(rule.id for rule in matched)
    redirects = [action.url for rule in matched for action in rule.actions if isinstance(action, Redirect)]
    assert whole.redirect == (redirects[0] if redirects else "")

    last = -(-whole.total // size)
    pages = [engine.search(query, size=size, page=page, filters=filters, rules=rules) for page in range(1, last + 2)]
    assert [product for page in pages for product in ids(page)] == ids(whole)
    assert len(set(ids(whole))) == len(ids(whole)) == whole.total
    assert {page.total for page in pages} == {whole.total}

    assert all(may_be_shown(matched, hit.product, filters) for hit in whole.hits)
    pins = {p for rule in matched for action in rule.actions if isinstance(action, Pin) for p in action.products}
    there = {product.id: product for product in (engine.snapshot.products[row] for row in range(ALL))}
    shown = {product for product in pins & there.keys() if may_be_shown(matched, there[product], filters)}
    assert shown <= set(ids(whole))
    assert ids(whole) == with_pins([each for each in ids(whole) if each not in shown], matched, shown)
    by_rule = {hit.product.id for hit in whole.hits if hit.rule and hit.product.id in pins}
    assert shown <= by_rule

    if not whole.relaxed:
        for field in ("availability", "brand"):
            for each in whole.facets[field].counts[:2]:
                # In brackets, so that the rules within a filter go on to hold.
                narrower = f'({filters or "id EXISTS"}) AND {field} = "{each.value}"'
                chosen = engine.search(query, size=ALL, filters=narrower, rules=rules)
                assert chosen.total == len(chosen.hits) == each.count
