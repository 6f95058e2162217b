"""ONNX programs, run by onnxruntime."""
