"""Metrics of predictions: loss, accuracy, calibration."""
