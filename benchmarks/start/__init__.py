"""How long a granted job takes to the first line of its program: `make bench BENCH=start`."""
