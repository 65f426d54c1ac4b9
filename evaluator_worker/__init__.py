"""From a model and held-out data to a report."""
