"""The InstantSearch protocol: what Algolia's open-source front-end libraries ask, in terms of an engine."""
