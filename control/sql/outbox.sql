-- name: take_outbox
-- $1 how many, $2 seconds of hold.
UPDATE outbox
SET held_until = now() + make_interval(secs => $2::double precision)
WHERE id IN (
    SELECT id FROM outbox WHERE held_until <= now() ORDER BY held_until, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
RETURNING id, exchange, routing_key, message_id, body, headers;

-- name: forget_outbox
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: outbox_depth
SELECT count(*) AS waiting,
       greatest(0, extract(epoch FROM now() - min(available_at)))::double precision AS age
FROM outbox;

-- name: enqueue
-- $1 orders (an array of objects), $2 seconds of hold. Gives the rows that are due now.
WITH ordered AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS ordered (
        position integer, task_id uuid, message_id uuid, exchange text, routing_key text, body text, headers jsonb,
        delay double precision, iteration integer, phase text, attempt integer
    )
), again AS (
    UPDATE phase_runs AS run
    SET ordered_at = now() + make_interval(secs => delay)
    FROM ordered
    WHERE (run.task_id, run.iteration, run.phase, run.attempt)
        = (ordered.task_id, ordered.iteration, ordered.phase, ordered.attempt)
      AND run.state = 'dispatched'
), put AS (
    INSERT INTO outbox (message_id, task_id, exchange, routing_key, body, headers, available_at, held_until)
    SELECT message_id, task_id, exchange, routing_key, body, headers, now() + make_interval(secs => delay),
           now() + make_interval(secs => CASE WHEN delay > 0 THEN delay ELSE $2::double precision END)
    FROM ordered
    ORDER BY message_id
    ON CONFLICT (message_id) DO UPDATE
    SET available_at = least(outbox.available_at, excluded.available_at), held_until = excluded.held_until
    RETURNING id, message_id, available_at
)
SELECT message_id, id AS outbox_id FROM put WHERE available_at <= now();
