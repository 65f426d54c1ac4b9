"""`treadle check`: what would happen to the rows of a file, without a task."""
