"""Rules, synonyms and settings of the protocol: translated to those of the store and back without loss."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import RuleError, SynonymError
from shelfwise.service.curation.relevance import Relevance, TypoTolerance
from shelfwise.service.curation.rules import (
    Boost,
    Bury,
    Classify,
    Data,
    Hide,
    Match,
    Pin,
    Redirect,
    Restrict,
    Rule,
    When,
)
from shelfwise.service.curation.synonyms import Synonym, SynonymKind
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.instantsearch.curation import RuleTranslator, parse_synonym, rule_document, synonym_document
from shelfwise.service.instantsearch.filters import AttributeCatalog, FilterTranslator

INDEX = "/1/indexes/products"
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def translator(store: SearchEngine) -> RuleTranslator:
    return RuleTranslator(FilterTranslator(AttributeCatalog(store.snapshot.catalog)))


@pytest.mark.parametrize(
    "filters",
    [
        "price < 100 AND NOT brand = Torvane",
        "price 10 TO 50 OR brand IN (Torvane, Bosch)",
        'category = "Tools" AND (rating >= 4 OR price != 5)',
        "brand != Torvane",
        "color = black",
        "created > 2020-01-01",
    ],
)
def test_filter_of_a_rule_selects_the_same_products_after_both_translations(
    translator: RuleTranslator, store: SearchEngine, filters: str
) -> None:
    document = rule_document(Rule("r", (Restrict(filters), Boost(filters, 2.5), Bury(filters)), When(filters=filters)))
    assert document is not None
    restrict, boost, bury = (rule := translator.rule(document)).actions
    assert isinstance(restrict, Restrict)
    assert isinstance(boost, Boost)
    assert isinstance(bury, Bury)
    assert (boost.strength, bury.strength) == (2.5, 1)
    wanted = list(store.ids(filters=filters).rest)
    for each in (restrict.filters, boost.filters, bury.filters, rule.when.filters):
        assert list(store.ids(filters=each).rest) == wanted
    assert rule_document(rule) == document


@pytest.mark.parametrize(
    "rule",
    [
        Rule("pins", (Pin(("a", "b"), 3), Pin(("c",))), When("red drill", Match.CONTAINS), "Pins", 5),
        Rule(
            "off",
            (Hide(("a", "b")),),
            When("drill", Match.EXACT, starts=NOON, ends=NOON.replace(year=2027)),
            enabled=False,
        ),
        Rule("away", (Redirect("/help"), Data({"banner": "sale"})), When(starts=NOON, contexts=("mobile",))),
    ],
)
def test_rule_is_the_same_after_both_translations(translator: RuleTranslator, rule: Rule) -> None:
    document = rule_document(rule)
    assert document is not None
    assert translator.rule(document) == rule
    assert not translator.notes


@pytest.mark.parametrize(
    "rule",
    [
        Rule("type", (Classify("drill", ("a",)),)),
        Rule("hidden", (Hide(filters="brand = Bosch"),)),
        Rule("everywhere", (Hide(("a",)),), When(contexts=("mobile", "desktop"))),
        Rule("rated", (Restrict("rating EXISTS"),)),
        Rule("twice", (Restrict("price < 5"), Restrict("price > 1"))),
    ],
)
def test_rule_without_words_in_the_protocol_is_not_translated(rule: Rule) -> None:
    assert rule_document(rule) is None


def rule(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"objectID": "r", "consequence": {"hide": [{"objectID": "a"}]}, **parts}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (rule(consequence={}), "consequence has no effect"),
        (rule(consequence={"userData": "sale"}), "userData must be an object"),
        (rule(consequence={"params": {"ignorePlurals": True}}), "consequence.params.ignorePlurals is not supported"),
        (
            rule(consequence={"params": {"filters": "nosuch:1"}}),
            "names an attribute or a value that no product can have",
        ),
        (rule(consequence={"params": {"filters": "price <"}}), "expected a number"),
        (rule(consequence={"params": {"optionalFilters": [""]}}), "empty entry"),
        (rule(consequence={"hide": ["a"]}), "hide must be a list of objects"),
        (rule(consequence={"hide": [{}]}), "hide[0].objectID must be a text"),
        (rule(consequence={"promote": [{"objectID": "a", "position": -1}]}), "position is -1"),
        (rule(consequence={"redirect": {"url": "javascript:x"}}), "url"),
        (rule(conditions=[{}, {}]), "conditions has 2 entries"),
        (rule(conditions=[{"device": "mobile"}]), "conditions[0].device is not supported"),
        (rule(conditions=[{"pattern": "x", "anchoring": "startsWith"}]), "anchoring is 'startsWith'"),
        (rule(conditions=[{"pattern": "{facet:brand}", "anchoring": "is"}]), "pattern must be words"),
        (rule(validity=[{}, {}]), "validity has 2 entries"),
        (rule(validity=[{"from": "now"}]), "validity[0].from must be a time"),
        (rule(condition=5), "condition"),
        (rule(objectID=""), "objectID: is empty"),
        (rule(priority="high"), "priority"),
        (rule(colour="red"), "colour is not supported"),
    ],
)
def test_rule_that_cannot_be_followed_is_refused_by_name(
    translator: RuleTranslator, document: dict[str, Any], named: str
) -> None:
    with pytest.raises(RuleError) as refused:
        translator.rule(document)
    assert named in str(refused.value)


def test_parts_of_a_rule_without_effect_are_named(translator: RuleTranslator) -> None:
    promote = {"promote": [{"objectID": "a", "position": 0}], "filterPromotes": False}
    condition = {"pattern": "pot", "anchoring": "is", "alternatives": True}
    translator.rule(rule(consequence=promote, conditions=[condition], tags=["week 12"], _metadata={"lastUpdate": 1}))
    assert [note.partition(": ")[2].partition(":")[0] for note in translator.notes] == [
        "not applied",
        "filterPromotes",
        "alternatives",
    ]


@pytest.mark.parametrize(
    "synonym",
    [
        Synonym("s", SynonymKind.TWO_WAY, ("sofa", "couch")),
        Synonym("h", SynonymKind.ONE_WAY, ("hdd", "disk"), ("hard drive",), enabled=False),
    ],
)
def test_synonym_is_the_same_after_both_translations(synonym: Synonym) -> None:
    assert parse_synonym(synonym_document(synonym)) == synonym


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"objectID": "s", "type": "placeholder"}, "type is 'placeholder'"),
        ({"objectID": "s", "type": "synonym", "synonyms": "sofa"}, "synonyms must be a list"),
        ({"objectID": "s", "type": "synonym", "synonyms": ["sofa"]}, "phrases"),
        ({"objectID": "s", "type": "oneWaySynonym", "synonyms": ["sofa"]}, "phrases"),
    ],
)
def test_synonym_that_is_none_is_refused_by_name(document: dict[str, Any], named: str) -> None:
    with pytest.raises(SynonymError) as refused:
        parse_synonym(document)
    assert named in str(refused.value)


def test_rules_that_the_protocol_cannot_express_survive_it(client: TestClient, store: SearchEngine) -> None:
    kept = Rule("kept", (Classify("drill", ("d000001",)),))
    store.rules.put([kept, Rule("gone", (Hide(("d000002",)),))])
    assert [each["objectID"] for each in client.post(f"{INDEX}/rules/search").json()["hits"]] == ["gone"]
    assert client.get(f"{INDEX}/rules/kept").status_code == 404
    assert client.post(f"{INDEX}/rules/batch?clearExistingRules=true", json=[rule()]).status_code == 200
    assert {each.id for each in store.rules.list()} == {"kept", "r"}
    assert client.post(f"{INDEX}/rules/clear").status_code == 200
    assert store.rules.list() == (kept,)
    store.rules.delete(["kept"])


def test_all_rules_of_a_request_are_stored_or_none(client: TestClient, store: SearchEngine) -> None:
    refused = client.post(f"{INDEX}/rules/batch", json=[rule(), rule(objectID="bad", consequence={})])
    assert (refused.status_code, "'bad'" in refused.json()["message"]) == (400, True)
    assert not store.rules.list()
    bodies: tuple[object, ...] = ({}, [1], [rule()] * 1_001)
    for body in bodies:
        assert client.post(f"{INDEX}/rules/batch", json=body).status_code == 400


def test_settings_are_relevance_settings(client: TestClient, store: SearchEngine) -> None:
    sent = {
        "customRanking": ["desc(rating)", "asc(price)"],
        "typoTolerance": "strict",
        "unretrievableAttributes": ["image"],
    }
    answer = client.put(f"{INDEX}/settings", json=sent).json()
    assert "strict is applied as true" in answer["message"]
    assert store.relevance.get() == Relevance(hidden=("images",)), "a customRanking adds nothing to scores"
    store.relevance.put([Relevance(typo_tolerance=TypoTolerance.OFFER)])
    settings = client.get(f"{INDEX}/settings").json()
    assert (settings["customRanking"], settings["typoTolerance"], settings["unretrievableAttributes"]) == (
        ["desc(rating)", "asc(price)"],
        False,
        None,
    )
    client.put(f"{INDEX}/settings", json={"customRanking": None})
    client.put(f"{INDEX}/settings", json={"searchableAttributes": ["brand", "unordered(name), color", "nosuch"]})
    fields = store.relevance.get().fields
    assert (fields.brand, fields.title, fields.category, fields.description) == (5, 3, 0, 0)
    assert {name for name, weight in fields.attributes.items() if weight} == {"color"}
    assert store.relevance.get().typo_tolerance is TypoTolerance.OFFER, "what is left out stays"
    store.relevance.restore(0)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"customRanking": ["rating"]}, "customRanking: 'rating' must be like desc(rating)"),
        ({"ranking": ["typo", "popularity"]}, "ranking: 'popularity' must be like desc(rating)"),
        ({"typoTolerance": "maybe"}, "typoTolerance is 'maybe'"),
        ({"searchableAttributes": {"a": 1}}, "searchableAttributes must be a list"),
        ({"distinct": "yes"}, "distinct is 'yes'"),
        ({"disableTypoToleranceOnWords": ["two words"]}, "never_corrected"),
        ({"replicas": 5}, "replicas must be a list"),
    ],
)
def test_setting_of_a_wrong_value_changes_nothing(
    client: TestClient, store: SearchEngine, settings: dict[str, Any], named: str
) -> None:
    before = client.get(f"{INDEX}/settings").json()
    refused = client.put(f"{INDEX}/settings", json={"hitsPerPage": 3, **settings})
    assert (refused.status_code, named in refused.json()["message"]) == (400, True), refused.text
    assert client.get(f"{INDEX}/settings").json() == before


def test_attributes_for_faceting_are_the_facets_of_a_star(client: TestClient) -> None:
    sent = {"attributesForFaceting": ["filterOnly(price)", "searchable(brand)", "rating"], "maxValuesPerFacet": 2}
    assert client.put(f"{INDEX}/settings", json=sent).status_code == 200
    facets = client.post(f"{INDEX}/query", json={"facets": ["*"]}).json()["facets"]
    assert (list(facets), len(facets["brand"])) == (["brand", "rating"], 2)
    reset = {"attributesForFaceting": None, "maxValuesPerFacet": None}
    assert client.put(f"{INDEX}/settings", json=reset).status_code == 200
    assert len(client.post(f"{INDEX}/query", json={"facets": ["*"]}).json()["facets"]) > 4
