"""Feeds: one module per format, detected by `reader`; rows are mapped to products, values are parsed."""
