"""An index directory with every kind of file, for tests of damage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.records import Event, EventKind, Product
from shelfwise.service.curation.relevance import Relevance, RelevanceStore
from shelfwise.service.curation.rules import Match, Pin, Rule, RuleStore, When
from shelfwise.service.curation.synonyms import Synonym, SynonymKind, SynonymStore
from shelfwise.service.experiments.experiment import Experiment, ExperimentStore, Variant
from shelfwise.service.http.auth import KEYS_FILE, AdminToken, KeyFile, Scope
from shelfwise.service.http.tasks import TaskQueue
from shelfwise.service.instantsearch.protocol_settings import ProtocolStore
from tests.rankers import add_ranker
from tests.services import add_key
from tests.unit.service.engine.demo_visits import MADE, refresh_tables
from tests.versions import publish_products


def click_of(number: int) -> Event:
    return Event(EventKind.CLICK, "1", time=MADE - timedelta(hours=3), shopper=f"u{number}")


def write_whole_index(root: Path) -> None:
    publish_products(root, [Product("1", "cordless drill"), Product("2", "garden hose")])
    RuleStore(root).put([Rule("drills", (Pin(("1",)),), When("drill", Match.CONTAINS))])
    RelevanceStore(root).put([Relevance(margin=2.0)])
    SynonymStore(root).put([Synonym("drill", SynonymKind.TWO_WAY, ("drill", "screwdriver"))])
    ExperimentStore(root).put([Experiment("halves", (Variant("a"), Variant("b")), aa_test=True)])
    TaskQueue(root).add("learn", {})
    add_key(KeyFile(root / KEYS_FILE), Scope.SEARCH)
    AdminToken(root).ensure()
    add_ranker(ranker_store(root))
    refresh_tables(root, map(click_of, range(6)))
    ProtocolStore(root).adopt_name("store")
