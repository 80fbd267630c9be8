"""Merchandising rules: what a store's people want of searches, as data: pins, boosts, burials, hidden products, filters
and redirects for a query, a category or a time."""

from service.merchandising.rule import Action, Boost, Bury, Hide, Match, Pin, Redirect, Restrict, Rule, When
from service.merchandising.store import RuleChange, RuleStore

__all__ = [
    "Action",
    "Boost",
    "Bury",
    "Hide",
    "Match",
    "Pin",
    "Redirect",
    "Restrict",
    "Rule",
    "RuleChange",
    "RuleStore",
    "When",
]
