"""The published studies: their runs, and the article's claims checked against their records."""
