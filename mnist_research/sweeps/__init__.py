"""Many trainings with other settings each, chosen between by their validation accuracy."""
