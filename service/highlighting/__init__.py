"""Which words of a product's texts match a query, marked: for the HTTP API and for InstantSearch pages alike."""
