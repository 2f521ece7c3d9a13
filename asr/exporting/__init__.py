"""Model folder → a folder to pass on, as ONNX or as a smaller model folder."""
