"""How a command runs: flags, exit codes, signals, progress, files; nothing about models."""
