"""The outside world: settings, bus, object store, database pool, telemetry, worker host, local stack."""
