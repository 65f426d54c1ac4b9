"""`treadle dlq`: list, show, replay and purge messages that could not be handled."""
