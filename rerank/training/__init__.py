"""Training the ranker: from a catalog alone, then from what shoppers clicked."""
