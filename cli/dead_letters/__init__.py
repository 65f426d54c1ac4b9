"""`treadle dlq`: list, show, replay and delete dead letters."""
