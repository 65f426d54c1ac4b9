-- name: lease
-- $1 worker id, $2 phase, $3 host, $4 slots, $5 busy, $6 what is asked (an array of objects): claims first, then
-- heartbeats. Gives a verdict for each, in order. Runs are locked in key order, as apply locks them, and are read
-- as they stand once locked: a run that is being closed is seen closed.
WITH seen AS (
    INSERT INTO workers (worker_id, phase, host, slots, busy, seen_at) VALUES ($1, $2, $3, $4, $5, now())
    ON CONFLICT (worker_id) DO UPDATE
    SET phase = excluded.phase, host = excluded.host, slots = excluded.slots, busy = excluded.busy,
        seen_at = excluded.seen_at
), asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($6::jsonb) AS asked (
        position integer, beat boolean, task_id uuid, iteration integer, phase text, attempt integer, claim_id uuid,
        ttl double precision, fraction double precision, checkpoint text,
        gpu_seconds double precision
    )
), locked AS MATERIALIZED (
    SELECT run.*, task.status, task.pausing
    FROM (SELECT DISTINCT task_id, iteration, phase, attempt FROM asked ORDER BY 1, 2, 3, 4) AS wanted
    CROSS JOIN LATERAL (
        SELECT task_id, iteration, phase, attempt, state, claim_id
        FROM phase_runs
        WHERE (task_id, iteration, phase, attempt)
            = (wanted.task_id, wanted.iteration, wanted.phase, wanted.attempt)
        FOR NO KEY UPDATE
    ) AS run
    CROSS JOIN LATERAL (SELECT status, pausing FROM tasks WHERE task_id = run.task_id OFFSET 0) AS task
), granted AS (
    SELECT DISTINCT ON (task_id, iteration, phase, attempt) task_id, iteration, phase, attempt, asked.claim_id
    FROM locked JOIN asked USING (task_id, iteration, phase, attempt)
    WHERE NOT beat AND state = 'dispatched' AND status <> 'SUSPENDED'
    ORDER BY task_id, iteration, phase, attempt, position
), standing AS (
    SELECT task_id, iteration, phase, attempt, status, pausing,
           CASE WHEN granted.claim_id IS NULL THEN state ELSE 'running' END AS state,
           coalesce(granted.claim_id, locked.claim_id) AS holder
    FROM locked LEFT JOIN granted USING (task_id, iteration, phase, attempt)
), decided AS MATERIALIZED (
    SELECT asked.*,
           state = 'running' AND holder = claim_id AS holds,
           CASE
               WHEN state IS NULL THEN 'unknown'
               WHEN state = 'cancelled' THEN 'cancelled'
               WHEN state NOT IN ('dispatched', 'running') THEN 'fenced'
               -- A heartbeat that is faster than its claim may go on; a claim finds the task suspended.
               WHEN state = 'dispatched' THEN CASE WHEN beat THEN 'granted' ELSE 'pause' END
               WHEN holder <> claim_id THEN CASE WHEN beat THEN 'fenced' ELSE 'held' END
               WHEN beat AND pausing AND status = 'SUSPENDED' THEN 'pause'
               ELSE 'granted'
           END AS verdict
    FROM asked LEFT JOIN standing USING (task_id, iteration, phase, attempt)
), renewal AS (
    SELECT DISTINCT ON (task_id, iteration, phase, attempt) *
    FROM decided
    WHERE holds
    ORDER BY task_id, iteration, phase, attempt, position DESC
), renewed AS (
    UPDATE phase_runs AS run
    SET state = 'running', worker_id = coalesce(run.worker_id, $1), claim_id = renewal.claim_id,
        claimed_at = coalesce(run.claimed_at, clock_timestamp()),
        lease_expires_at = clock_timestamp() + make_interval(secs => renewal.ttl),
        fraction = coalesce(renewal.fraction, run.fraction),
        checkpoint = coalesce(renewal.checkpoint, run.checkpoint),
        gpu_seconds = greatest(run.gpu_seconds, renewal.gpu_seconds)
    FROM renewal
    -- The array keeps a plan that was made for a small table from reading all of a large one.
    WHERE run.task_id = ANY (ARRAY(SELECT task_id FROM renewal))
      AND (run.task_id, run.iteration, run.phase, run.attempt)
        = (renewal.task_id, renewal.iteration, renewal.phase, renewal.attempt)
)
SELECT verdict FROM decided ORDER BY position;

-- name: expired
-- $1 how many.
SELECT * FROM phase_runs
WHERE ended_at IS NULL AND state = 'running' AND lease_expires_at < now()
ORDER BY lease_expires_at
LIMIT $1;

-- name: unclaimed
-- $1 phase, $2 seconds since the command was due, $3 how many.
SELECT run.*
FROM phase_runs AS run JOIN tasks AS task USING (task_id)
WHERE run.ended_at IS NULL
  AND run.state = 'dispatched'
  AND run.phase = $1
  AND run.ordered_at <= now() - make_interval(secs => $2::double precision)
  AND task.status IN ('OPTIMIZING', 'TRAINING', 'EVALUATING')
  AND NOT EXISTS (SELECT FROM outbox WHERE outbox.message_id = run.command_id)
ORDER BY run.ordered_at
LIMIT $3;

-- name: looping
-- $1 seconds, $2 how many.
SELECT task_id
FROM tasks AS task
WHERE ending = 'NONE'
  AND status = 'LOOPING'
  AND updated_at <= now() - make_interval(secs => $1::double precision)
  AND NOT EXISTS (
      SELECT FROM outbox WHERE outbox.task_id = task.task_id AND outbox.routing_key = 'next_iteration'
  )
ORDER BY updated_at
LIMIT $2;

-- name: silence
-- Seconds until the first lease of each phase ends.
SELECT phase, extract(epoch FROM min(lease_expires_at) - clock_timestamp())::double precision AS left
FROM phase_runs
WHERE ended_at IS NULL AND state = 'running'
GROUP BY phase;

-- name: workers
-- $1 seconds.
SELECT worker_id, phase, host, slots, busy
FROM workers
WHERE seen_at >= now() - make_interval(secs => $1::double precision)
ORDER BY worker_id;

-- name: standing
-- $1 task id, $2 seconds within which a worker was heard of. The task's two newest attempts, newest first.
SELECT run.*, clock_timestamp() AS now, there.*, pause.*
FROM (SELECT * FROM phase_runs WHERE task_id = $1 ORDER BY created_at DESC LIMIT 2) AS run
JOIN tasks AS task USING (task_id)
CROSS JOIN LATERAL (
    SELECT count(*)::integer AS workers, coalesce(sum(slots), 0)::integer AS slots,
           coalesce(sum(greatest(slots - busy, 0)), 0)::integer AS free
    FROM workers
    WHERE workers.phase = run.phase AND seen_at >= now() - make_interval(secs => $2::double precision)
) AS there
LEFT JOIN LATERAL (
    SELECT at AS paused_at, actor AS paused_by, reason AS paused_for
    FROM task_events
    WHERE task.status = 'SUSPENDED' AND task_id = $1 AND kind = 'pause_task' AND outcome = 'applied'
    ORDER BY id DESC
    LIMIT 1
) AS pause ON true
ORDER BY run.created_at DESC;

-- name: lead
-- $1 the role's name. The lock belongs to the session that asks.
SELECT pg_try_advisory_lock(hashtextextended('treadle/' || $1, 0)) AS leads;
