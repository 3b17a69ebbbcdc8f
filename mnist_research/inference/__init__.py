"""A trained network in use: recognizing images, exporting."""
