"""Merchandising rules, synonyms, relations and relevance settings: validated documents with a log of every change."""
