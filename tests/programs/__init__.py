"""Small programs for the tests of the worker host."""
