"""What the numbers mean: pure functions over records and samples."""
