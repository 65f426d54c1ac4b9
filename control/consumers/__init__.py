"""Consumers of control: events of workers, lease requests, progress, and submissions from users."""
