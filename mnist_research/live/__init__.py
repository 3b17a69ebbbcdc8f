"""Recognition while somebody watches: the page and the camera."""
