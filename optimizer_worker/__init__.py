"""From data to better data, with a ledger of what was done to every row."""
