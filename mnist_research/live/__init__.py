"""Live recognition: the web page and the camera."""
