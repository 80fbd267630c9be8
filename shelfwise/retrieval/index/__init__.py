"""Indexes on one machine: keywords in tantivy, vectors in FAISS, token states, and the fusion of their scores."""
