"""What control consumes: events of workers, lease requests, progress, and submissions from users."""
