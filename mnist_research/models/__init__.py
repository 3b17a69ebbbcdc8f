"""The networks: those of this package, and those in users' own files."""
