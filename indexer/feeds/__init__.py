"""Feeds: each format in one module, recognised by `reader`; rows mapped to products, values parsed."""
