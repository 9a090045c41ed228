"""Four workloads as users bring them: they know nothing of jaxaccel, which finds them by name."""
