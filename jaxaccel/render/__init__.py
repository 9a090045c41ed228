"""Where results go: files, terminal, Weights & Biases."""
