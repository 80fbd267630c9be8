"""Text towers: the encoder of queries and products, fine-tuned on a store's data."""
