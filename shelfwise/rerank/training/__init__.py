"""Training of the ranker: first from a catalog only, later from shoppers' clicks."""
