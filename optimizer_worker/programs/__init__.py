"""Programs that run as child processes; only these modules may import heavy libraries."""
