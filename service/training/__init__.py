"""Training the ranker of an index: what is wired here from its catalog, its clicks and `rerank.training`."""
