"""Texts: analysis to terms, units, synonyms, the words of a catalog and where words stand in a text."""
