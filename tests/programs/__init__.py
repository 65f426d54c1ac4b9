"""Tiny programs for the worker host's tests."""
