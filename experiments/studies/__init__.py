"""What makes the published studies: their runs, and what the article claims held against their records."""
