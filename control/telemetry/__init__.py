"""Metrics, gauges and spans of control."""
