"""The filter language: its parser, its tree, a catalog's fields, and a filter checked against them."""
