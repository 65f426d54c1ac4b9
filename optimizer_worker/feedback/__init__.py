"""Use an evaluation report to draw rows from the pool and to weight slices."""
