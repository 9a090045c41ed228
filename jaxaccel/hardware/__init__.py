"""The machine: its GPU, its host, and what else runs on it."""
