"""Answers to shoppers' questions, quoted from the store's own texts."""
