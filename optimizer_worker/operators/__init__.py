"""Rules on rows. Each returns verdicts; only `Corpus.apply` changes rows."""
