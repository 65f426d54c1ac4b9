"""Tests of what users install: the wheel."""
