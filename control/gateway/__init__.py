"""The HTTP door of control."""
