"""Sponsored placement: campaigns, relevance floors, the auction, and the charges of clicks."""
