"""Create tasks and look at them: submit, upload, list, show, watch."""
