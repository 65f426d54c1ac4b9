"""Find near-duplicate texts: normalization, shingles, MinHash pairs."""
