"""Upload data, and create, list, show and watch tasks."""
