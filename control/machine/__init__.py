"""The state machine of a task: pure functions without a clock, randomness or I/O."""
