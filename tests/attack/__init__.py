"""Attacks on a running system: hostile messages, and the checks that nothing stands still afterwards."""
