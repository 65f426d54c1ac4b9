"""Benchmarks to run by hand: `make bench BENCH=control`."""
