"""Other search programs, measured on the products, queries, encoder and judgments of an index of ours."""
