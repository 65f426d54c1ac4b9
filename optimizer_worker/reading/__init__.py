"""Uploaded files to rows. Path of a line: container → record → format → row, or quarantine."""
