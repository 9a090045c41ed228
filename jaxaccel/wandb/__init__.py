"""Records as Weights & Biases runs: what a run holds (pure), how it is sent, what has arrived."""
