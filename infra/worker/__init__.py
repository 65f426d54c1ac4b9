"""The worker host: slots, claims, leases, the child program, the spool and the manifest."""
