"""Many runs with different settings, compared by validation accuracy."""
