"""What is computed: one file a workload, base.py for what they share."""
