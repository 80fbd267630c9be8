"""The two text towers: an encoder of queries and products, trained on what a store knows of both."""
