"""Encoders of texts: what each does, the registry, torch, ONNX Runtime, and where weights come from."""
