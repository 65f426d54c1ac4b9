"""From an evaluation report to rows drawn from the pool, and to weights of slices."""
