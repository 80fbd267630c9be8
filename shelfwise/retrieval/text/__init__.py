"""Texts: analysis into terms, units, synonyms, the words of a catalog, and the positions of words in a text."""
