"""The filter language: its parser, its syntax tree, a catalog's fields, and filters compiled against them."""
