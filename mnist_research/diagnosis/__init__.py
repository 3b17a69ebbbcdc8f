"""What keeps training from running on a machine, and what to do about it."""
