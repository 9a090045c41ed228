"""The parent's side: what to ask of which worker, when, and when to stop."""
