"""ONNX graphs as values, and as files."""
