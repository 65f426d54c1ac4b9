"""The store of control: a port and its PostgreSQL adapter; the tests have a second adapter, in memory."""
