"""Read uploaded files into rows: container, record, format, and then a row or a quarantined line."""
