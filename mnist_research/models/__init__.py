"""The models: built-in, and from users' files."""
