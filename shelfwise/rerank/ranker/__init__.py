"""The ranker: cross-attention of a query with product token states that were computed when the index was built."""
