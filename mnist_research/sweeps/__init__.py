"""Many trainings with different settings, compared by validation accuracy."""
