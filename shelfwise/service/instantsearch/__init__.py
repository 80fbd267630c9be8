"""The InstantSearch protocol: requests of Algolia's open-source front-end libraries, answered by an engine."""
