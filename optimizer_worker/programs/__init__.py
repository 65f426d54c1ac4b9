"""Programs that run as children; only here may heavy libraries be imported."""
