"""What keeps training from running on a machine, and how to fix it."""
