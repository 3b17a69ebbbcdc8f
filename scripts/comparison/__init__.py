"""What `scripts/compare.py` consists of."""
