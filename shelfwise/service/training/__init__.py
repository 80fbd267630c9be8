"""Training the models of an index from its catalog, its events and `shelfwise.rerank.training`."""
