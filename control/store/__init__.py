"""Control's state as a port, with PostgreSQL behind it; the tests have a second adapter, in memory."""
