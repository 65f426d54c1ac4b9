-- name: lease
-- $1 worker id, $2 phase, $3 host, $4 slots, $5 busy, $6 requests (an array of objects): claims first, then
-- heartbeats, $7 free bytes, $8 GPUs (an array of objects), $9 why it is unfit. Returns a verdict for each request, in
-- order. Attempts are locked in key order, as apply locks them, and are read
-- after the lock is taken, so an attempt that another transaction is ending is seen as ended.
WITH seen AS (
    INSERT INTO workers (worker_id, phase, host, slots, busy, seen_at, free_disk, gpus, unfit)
    VALUES ($1, $2, $3, $4, $5, now(), $7, $8, $9)
    ON CONFLICT (worker_id) DO UPDATE
    SET phase = excluded.phase, host = excluded.host, slots = excluded.slots, busy = excluded.busy,
        seen_at = excluded.seen_at, free_disk = excluded.free_disk, gpus = excluded.gpus, unfit = excluded.unfit
), request AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($6::jsonb) AS request (
        position integer, is_heartbeat boolean, task_id uuid, iteration integer, phase text, attempt integer, claim_id uuid,
        ttl double precision, fraction double precision, checkpoint text,
        gpu_seconds double precision
    )
), locked AS MATERIALIZED (
    SELECT a.*, task.status, task.pausing
    FROM (SELECT DISTINCT task_id, iteration, phase, attempt FROM request ORDER BY 1, 2, 3, 4) AS wanted
    CROSS JOIN LATERAL (
        SELECT task_id, iteration, phase, attempt, state, claim_id
        FROM attempts
        WHERE (task_id, iteration, phase, attempt)
            = (wanted.task_id, wanted.iteration, wanted.phase, wanted.attempt)
        FOR NO KEY UPDATE
    ) AS a
    CROSS JOIN LATERAL (SELECT status, pausing FROM tasks WHERE task_id = a.task_id OFFSET 0) AS task
), granted AS (
    SELECT DISTINCT ON (task_id, iteration, phase, attempt) task_id, iteration, phase, attempt, request.claim_id
    FROM locked JOIN request USING (task_id, iteration, phase, attempt)
    WHERE NOT is_heartbeat AND state = 'dispatched' AND status <> 'SUSPENDED'
    ORDER BY task_id, iteration, phase, attempt, position
), current AS (
    SELECT task_id, iteration, phase, attempt, status, pausing,
           CASE WHEN granted.claim_id IS NULL THEN state ELSE 'running' END AS state,
           coalesce(granted.claim_id, locked.claim_id) AS holder
    FROM locked LEFT JOIN granted USING (task_id, iteration, phase, attempt)
), decided AS MATERIALIZED (
    SELECT request.*,
           state = 'running' AND holder = claim_id AS holds,
           CASE
               WHEN state IS NULL THEN 'unknown'
               WHEN state = 'cancelled' THEN 'cancelled'
               WHEN state NOT IN ('dispatched', 'running') THEN 'fenced'
               -- A heartbeat may arrive before its claim: the verdict is 'granted'. A claim was not granted above only
               -- if the task is suspended.
               WHEN state = 'dispatched' THEN CASE WHEN is_heartbeat THEN 'granted' ELSE 'pause' END
               WHEN holder <> claim_id THEN CASE WHEN is_heartbeat THEN 'fenced' ELSE 'held' END
               WHEN is_heartbeat AND pausing AND status = 'SUSPENDED' THEN 'pause'
               ELSE 'granted'
           END AS verdict
    FROM request LEFT JOIN current USING (task_id, iteration, phase, attempt)
), renewal AS (
    SELECT DISTINCT ON (task_id, iteration, phase, attempt) *
    FROM decided
    WHERE holds
    ORDER BY task_id, iteration, phase, attempt, position DESC
), renewed AS (
    UPDATE attempts AS a
    SET state = 'running', worker_id = coalesce(a.worker_id, $1), claim_id = renewal.claim_id,
        claimed_at = coalesce(a.claimed_at, clock_timestamp()),
        lease_expires_at = clock_timestamp() + make_interval(secs => renewal.ttl),
        fraction = coalesce(renewal.fraction, a.fraction),
        checkpoint = coalesce(renewal.checkpoint, a.checkpoint),
        gpu_seconds = greatest(a.gpu_seconds, renewal.gpu_seconds)
    FROM renewal
    -- With the array, a plan that was made for a small table does not read the whole table once it is large.
    WHERE a.task_id = ANY (ARRAY(SELECT task_id FROM renewal))
      AND (a.task_id, a.iteration, a.phase, a.attempt)
        = (renewal.task_id, renewal.iteration, renewal.phase, renewal.attempt)
)
SELECT verdict FROM decided ORDER BY position;

-- name: expired
-- $1 limit.
SELECT * FROM attempts
WHERE ended_at IS NULL AND state = 'running' AND lease_expires_at < now()
ORDER BY lease_expires_at
LIMIT $1;

-- name: unclaimed
-- $1 phase, $2 seconds since the command was due, $3 limit.
SELECT a.*
FROM attempts AS a JOIN tasks AS task USING (task_id)
WHERE a.ended_at IS NULL
  AND a.state = 'dispatched'
  AND a.phase = $1
  AND a.due_at <= now() - make_interval(secs => $2::double precision)
  AND task.status IN ('OPTIMIZING', 'TRAINING', 'EVALUATING')
  AND NOT EXISTS (SELECT FROM outbox WHERE outbox.message_id = a.command_id)
ORDER BY a.due_at
LIMIT $3;

-- name: looping
-- $1 seconds since the last change of the task, $2 limit.
SELECT task_id
FROM tasks AS task
WHERE final_status = 'NONE'
  AND status = 'LOOPING'
  AND updated_at <= now() - make_interval(secs => $1::double precision)
  AND NOT EXISTS (
      SELECT FROM outbox WHERE outbox.task_id = task.task_id AND outbox.routing_key = 'next_iteration'
  )
ORDER BY updated_at
LIMIT $2;

-- name: longest_silence
-- Seconds until the first lease of each phase expires.
SELECT phase, extract(epoch FROM min(lease_expires_at) - clock_timestamp())::double precision AS left
FROM attempts
WHERE ended_at IS NULL AND state = 'running'
GROUP BY phase;

-- name: workers
-- $1 seconds within which a worker must have sent a request, $2 limit.
SELECT worker_id, phase, host, slots, busy, free_disk, gpus, unfit
FROM workers
WHERE seen_at >= now() - make_interval(secs => $1::double precision)
ORDER BY worker_id
LIMIT $2;

-- name: wait_context
-- $1 task id, $2 seconds within which a worker must have sent a request, $3 seconds after which a message should have
-- been sent. Returns the task's two newest attempts, newest first.
SELECT a.*, clock_timestamp() AS now, capacity.*, pause.*, unsent.*
FROM (SELECT * FROM attempts WHERE task_id = $1 ORDER BY created_at DESC LIMIT 2) AS a
JOIN tasks AS task USING (task_id)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE unfit IS NULL)::integer AS workers,
           coalesce(sum(slots) FILTER (WHERE unfit IS NULL), 0)::integer AS slots,
           coalesce(sum(greatest(slots - busy, 0)) FILTER (WHERE unfit IS NULL), 0)::integer AS free,
           count(unfit)::integer AS unfit_workers,
           min(worker_id) FILTER (WHERE unfit IS NOT NULL) AS unfit_worker,
           (array_agg(unfit ORDER BY worker_id) FILTER (WHERE unfit IS NOT NULL))[1] AS unfit_reason
    FROM workers
    WHERE workers.phase = a.phase AND seen_at >= now() - make_interval(secs => $2::double precision)
) AS capacity
LEFT JOIN LATERAL (
    SELECT at AS paused_at, actor AS paused_by, reason AS paused_for
    FROM task_events
    WHERE task.status = 'SUSPENDED' AND task_id = $1 AND kind = 'pause_task' AND outcome = 'applied'
    ORDER BY id DESC
    LIMIT 1
) AS pause ON true
CROSS JOIN LATERAL (
    SELECT min(available_at) AS unsent_since
    FROM (
        SELECT available_at FROM outbox WHERE message_id = a.command_id
        UNION ALL
        SELECT available_at FROM outbox WHERE task_id = $1 AND routing_key = 'next_iteration'
    ) AS message
    WHERE available_at < clock_timestamp() - make_interval(secs => $3::double precision)
) AS unsent
ORDER BY a.created_at DESC;

-- name: try_lead
-- $1 the role's name. The lock belongs to the session that runs this statement.
SELECT pg_try_advisory_lock(hashtextextended('treadle/' || $1, 0)) AS leads;
