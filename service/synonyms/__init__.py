"""Synonyms that a store's people keep as data: words that find each other, words that find others, and proposals for
them from what shoppers did."""

from service.synonyms.proposal import Proposal
from service.synonyms.store import SynonymChange, SynonymStore
from service.synonyms.synonym import Kind, Synonym

__all__ = ["Kind", "Proposal", "Synonym", "SynonymChange", "SynonymStore"]
