-- name: lock_outbox
-- $1 limit, $2 seconds of the lock.
UPDATE outbox
SET locked_until = now() + make_interval(secs => $2::double precision)
WHERE id IN (
    SELECT id FROM outbox WHERE locked_until <= now() ORDER BY locked_until, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, task_id, exchange, routing_key, message_id, body, headers;

-- name: delete_outbox
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: outbox_depth
SELECT count(*) AS waiting,
       greatest(0, extract(epoch FROM now() - min(available_at)))::double precision AS age
FROM outbox;

-- name: enqueue
-- $1 outbox messages (an array of objects), $2 seconds for which rows due now are locked. Returns the rows due now.
WITH message AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS message (
        position integer, task_id uuid, message_id uuid, exchange text, routing_key text, body text, headers jsonb,
        delay double precision, iteration integer, phase text, attempt integer
    )
), rescheduled AS (
    UPDATE attempts AS a
    SET due_at = now() + make_interval(secs => delay)
    FROM message
    WHERE (a.task_id, a.iteration, a.phase, a.attempt)
        = (message.task_id, message.iteration, message.phase, message.attempt)
      AND a.state = 'dispatched'
), stored AS (
    INSERT INTO outbox (message_id, task_id, exchange, routing_key, body, headers, available_at, locked_until)
    SELECT message_id, task_id, exchange, routing_key, body, headers, now() + make_interval(secs => delay),
           now() + make_interval(secs => CASE WHEN delay > 0 THEN delay ELSE $2::double precision END)
    FROM message
    ORDER BY message_id
    ON CONFLICT (message_id) DO UPDATE
    SET available_at = least(outbox.available_at, excluded.available_at), locked_until = excluded.locked_until
    RETURNING id, message_id, available_at
)
SELECT message_id, id AS outbox_id FROM stored WHERE available_at <= now();
