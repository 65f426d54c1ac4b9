"""Chaos: real processes on private servers, random faults from a seed, and a checker that reads the result."""
