"""What predictions are worth: loss, accuracy, calibration."""
