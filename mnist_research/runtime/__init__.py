"""How a command runs: flags, exit codes, signals, progress, files. Knows nothing of networks."""
