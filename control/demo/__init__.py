"""The demo: real questions to a bank, a model made on the spot, and the loop that betters it."""
