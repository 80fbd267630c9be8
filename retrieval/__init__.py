"""Records, text analysis, encoders, indexes, merging and the published index: everything that answers a query."""
