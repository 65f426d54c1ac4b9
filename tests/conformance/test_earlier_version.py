"""A database that an earlier version wrote: it is migrated, and its tasks can be read and go on."""

from __future__ import annotations

from contracts.options import TimeLimits
from tests.build import completed
from tests.conformance.stores import WORKER, Bench, execute

FORMER = """
SET session_replication_role = replica;
ALTER TABLE workers DROP COLUMN free_disk, DROP COLUMN gpus, DROP COLUMN unfit;
DROP INDEX task_events_stale;
DELETE FROM schema_migrations WHERE number > 1;
UPDATE tasks SET
    spec = jsonb_set(spec, '{model,trust_remote_code}', 'true') - 'limits',
    state = state - '{unfit_failures,hub_failures}'::text[];
"""
"""Undoes what this version has changed."""
UNBOUNDED = """
UPDATE tasks SET spec = spec || jsonb_build_object(
    'hyperparameters', spec -> 'hyperparameters' || '{"checkpoint_every": 1000000000000}',
    'stop', spec -> 'stop' || '{"gpu_seconds": 1e18, "labels": 1e30}'
);
"""
"""Values that an earlier version took."""


async def test_a_task_of_an_earlier_version_goes_on(postgres_bench: Bench) -> None:
    task = await postgres_bench.started()
    await postgres_bench.store.lease(WORKER, (), ())
    await execute(postgres_bench.dsn, FORMER)
    store = await postgres_bench.another()
    stored = (await store.task(task.task_id)).task
    assert (stored.spec.limits, stored.unfit_failures, stored.hub_failures) == (TimeLimits(), 0, 0)
    assert await store.workers(60) == [WORKER]
    await postgres_bench.after(stored, completed(stored))


async def test_options_of_an_earlier_version_that_had_no_bound_get_one(postgres_bench: Bench) -> None:
    task = await postgres_bench.started()
    await execute(postgres_bench.dsn, FORMER + UNBOUNDED)
    spec = (await (await postgres_bench.another()).task(task.task_id)).task.spec
    assert (spec.hyperparameters.checkpoint_every, spec.stop.gpu_seconds, spec.stop.labels) == (
        2**31 - 1,
        1e12,
        2**63 - 1,
    )
