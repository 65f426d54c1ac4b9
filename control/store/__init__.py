"""Control's memory as a port, with two adapters: PostgreSQL and in memory."""
