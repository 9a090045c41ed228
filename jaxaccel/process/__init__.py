"""The command's own process: signals, standard streams, what it says, and how its children end."""
