"""What a run writes down while it trains: metrics, TensorBoard, pictures, traces."""
