"""What the weights are, where they are, and running them with ONNX Runtime."""
