"""Models prepared for inference, and the ONNX export."""
