"""User tower: encodes a shopper's history as a vector in the space of the product vectors."""
