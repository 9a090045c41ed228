"""The child's side: the only code that runs JAX."""
