"""JAX beside its peers: other frameworks on the same data, sampled in turn with it, under the same rules."""
