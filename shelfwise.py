"""Shelfwise: product search for web stores. The public names; everything else may change between versions."""

from retrieval.errors import ShelfwiseError
from retrieval.records import Availability, Candidate, Facet, FacetCount, Hit, Page, Product, Query, StageScore
from service.engine import SearchEngine

__all__ = [
    "Availability",
    "Candidate",
    "Facet",
    "FacetCount",
    "Hit",
    "Page",
    "Product",
    "Query",
    "SearchEngine",
    "ShelfwiseError",
    "StageScore",
]
