"""Merchandising rules and synonyms: validated documents with a log of every change."""
