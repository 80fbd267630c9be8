"""Encoders of texts: protocols, registry, torch, ONNX Runtime and tables, and the sources of weights."""
