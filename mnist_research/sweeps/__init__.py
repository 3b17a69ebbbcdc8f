"""Trains many settings and compares them by validation accuracy."""
