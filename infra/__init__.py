"""The outside world: settings, bus, object store, database pool, telemetry, children, the worker host, the local stack."""
