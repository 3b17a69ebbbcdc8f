"""Uses of a trained model: reading images, and exporting."""
