"""Metrics, gauges and trace spans of control."""
