"""The teacher: a cross-encoder that scores pairs of query and product text, to label with and to measure against."""
