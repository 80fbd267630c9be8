"""The search engine: an opened version, live changes over it, retrieval, reranking, recommendations, suggestions."""
