"""Which texts are near-duplicates: normalization, shingles, MinHash pairs."""
