"""The teacher: a cross-encoder that scores pairs of query and product text, for labels and as a reference."""
