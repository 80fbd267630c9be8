"""The same indexes in an Elasticsearch cluster: client, documents, bulk loading, versions."""
