"""Records, text analysis, encoders, indexes, fusion and the published index: everything that answers a query."""
