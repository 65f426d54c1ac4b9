"""Chaos: real processes on private servers, broken at random by a seed, and a checker that reads what came of it."""
