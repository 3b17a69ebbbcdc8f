"""The records of a run: metrics, TensorBoard, pictures, traces."""
