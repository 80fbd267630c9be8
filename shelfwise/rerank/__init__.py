"""Learning from clicks and the cross-attention reranker."""
