-- The hot path: two statements for each batch of events. Rows are updated in task-id order, tasks before attempts, so
-- that two batches cannot deadlock. All other writes derive from the tasks that were really updated.

-- name: load
-- $1 task ids, $2 message ids. Returns one row for each pair whose task exists. Scalar subqueries use an index for each
-- row; PostgreSQL may plan a join, or EXISTS, as a scan of the whole table.
SELECT wanted.position,
       (task.state || jsonb_build_object('task_id', task.task_id, 'version', task.version, 'spec', task.spec))::text
           AS task,
       task.created_at, task.updated_at,
       (SELECT claim_id FROM attempts AS a WHERE a.task_id = task.task_id AND a.ended_at IS NULL) AS claim_id,
       (SELECT true FROM inbox WHERE inbox.message_id = wanted.message_id) IS NOT NULL AS duplicate
FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS wanted (task_id, message_id, position)
JOIN tasks AS task USING (task_id);

-- name: apply
-- $1 changes (each with the key of the task's newest attempt), $2 outbox messages, $3 datasets, $4 models (arrays of
-- objects), $5 ids of confirmed outbox rows, $6 seconds for which rows due now are locked, $7 maximum stale events in the
-- history of a task, beyond which a stale event is handled but writes nothing. Returns the handled message ids, then the
-- times of the attempts that they ended, then the ids of outbox rows due now.
WITH change AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS change (
        task_id uuid, version integer, stale boolean, state jsonb, message_id uuid, kind text, event jsonb, actor text,
        reason text, ended_as text, end_message text, iteration integer, phase text, attempt integer
    )
    ORDER BY task_id
), message AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($2::jsonb) AS message (
        position integer, task_id uuid, message_id uuid, exchange text, routing_key text, body text, headers jsonb,
        delay double precision, iteration integer, phase text, attempt integer, input_dataset_id text
    )
), updated AS (
    UPDATE tasks AS task
    SET version = task.version + 1, state = change.state, updated_at = now()
    FROM change
    WHERE NOT change.stale AND task.task_id = change.task_id AND task.version = change.version
    RETURNING task.task_id, task.version, task.status, task.created_at, task.updated_at, change.message_id, change.kind, change.event, change.actor,
              change.reason, change.ended_as, change.end_message, change.iteration, change.phase, change.attempt
), handled AS MATERIALIZED (
    SELECT task_id, version, status, created_at, updated_at, message_id, kind, event, actor, reason, true AS recorded
    FROM updated
    UNION ALL
    SELECT task_id, NULL, task.status, task.created_at, task.updated_at, message_id, kind, event, actor, reason,
           NOT EXISTS (
               SELECT FROM task_events AS earlier
               WHERE earlier.task_id = task.task_id AND earlier.outcome = 'stale'
               OFFSET $7::integer - 1
           )
    FROM change JOIN tasks AS task USING (task_id, version)
    WHERE change.stale
), received AS (
    INSERT INTO inbox (message_id, task_id)
    SELECT message_id, task_id FROM handled WHERE recorded ORDER BY message_id
    ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id
), history AS (
    INSERT INTO task_events (task_id, version, kind, outcome, status, actor, reason, event)
    SELECT task_id, version, kind, CASE WHEN version IS NULL THEN 'stale' ELSE 'applied' END, status, actor, reason,
           event
    FROM handled
    WHERE version IS NOT NULL OR message_id IN (SELECT message_id FROM received)
), ended AS (
    UPDATE attempts AS a
    SET state = updated.ended_as, message = updated.end_message, event = updated.event, ended_at = now(),
        cleaned_at = CASE WHEN a.phase = 'evaluate' AND updated.ended_as = 'completed' THEN now() END
    FROM updated
    WHERE (a.task_id, a.iteration, a.phase, a.attempt)
        = (updated.task_id, updated.iteration, updated.phase, updated.attempt)
      AND updated.ended_as IS NOT NULL
      AND a.state IN ('dispatched', 'running')
    RETURNING message_id, due_at, claimed_at, ended_at, gpu_seconds
), dispatched AS (
    INSERT INTO attempts (task_id, iteration, phase, attempt, state, command_id, input_dataset_id, due_at)
    SELECT task_id, message.iteration, message.phase, message.attempt, 'dispatched', message.message_id,
           input_dataset_id, now() + make_interval(secs => delay)
    FROM updated JOIN message USING (task_id)
    WHERE message.phase IS NOT NULL
    ON CONFLICT (task_id, iteration, phase, attempt) DO UPDATE SET due_at = excluded.due_at
), registered AS (
    INSERT INTO datasets (dataset_id, name, storage_path, file_size, sample_count, dataset_type, user_id,
                          is_optimized, source_dataset_id)
    SELECT dataset_id, name, storage_path, file_size, sample_count, dataset_type, user_id, true, source_dataset_id
    FROM updated JOIN jsonb_to_recordset($3::jsonb) AS dataset (
        task_id uuid, dataset_id text, name text, storage_path text, file_size bigint, sample_count bigint,
        dataset_type text,
        user_id bigint, source_dataset_id text
    ) USING (task_id)
    ON CONFLICT (dataset_id) DO NOTHING
), trained AS (
    INSERT INTO models (task_id, iteration, attempt, source)
    SELECT task_id, model.iteration, model.attempt, source
    FROM updated JOIN jsonb_to_recordset($4::jsonb) AS model (
        task_id uuid, iteration integer, attempt integer, source jsonb
    ) USING (task_id)
    ON CONFLICT (task_id, iteration) DO UPDATE
    SET attempt = excluded.attempt, source = excluded.source, created_at = excluded.created_at
), deleted AS (
    DELETE FROM outbox WHERE id = ANY ($5::bigint[])
), stored AS (
    INSERT INTO outbox (message_id, task_id, exchange, routing_key, body, headers, available_at, locked_until)
    SELECT message.message_id, task_id, exchange, routing_key, body, headers, now() + make_interval(secs => delay),
           now() + make_interval(secs => CASE WHEN delay > 0 THEN delay ELSE $6::double precision END)
    FROM updated JOIN message USING (task_id)
    ORDER BY position
    ON CONFLICT (message_id) DO UPDATE
    SET available_at = least(outbox.available_at, excluded.available_at), locked_until = excluded.locked_until
    RETURNING id, message_id, available_at
)
SELECT message_id, true AS handled, recorded, created_at, updated_at, NULL::bigint AS outbox_id,
       NULL::timestamptz AS due_at, NULL::timestamptz AS claimed_at, NULL::timestamptz AS ended_at,
       NULL::double precision AS gpu_seconds
FROM handled
UNION ALL
SELECT message_id, false, NULL, NULL, NULL, NULL, due_at, claimed_at, ended_at, gpu_seconds FROM ended
UNION ALL
SELECT message_id, false, NULL, NULL, NULL, id, NULL, NULL, NULL, NULL FROM stored WHERE available_at <= now();

-- name: create
-- $1 tasks (an array of objects in their state after the start; `start` is null for a task without a start), $2 outbox
-- messages of the starts, $3 seconds for which rows due now are locked. Returns the tasks with these ids, first those
-- created now, then those that existed before (except tasks that another transaction commits at the same time), then
-- the ids of outbox rows due now.
WITH new AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS new (
        task_id uuid, version integer, digest text, spec jsonb, state jsonb, actor text, first text,
        start_id uuid, start jsonb
    )
), message AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($2::jsonb) AS message (
        position integer, task_id uuid, message_id uuid, exchange text, routing_key text, body text, headers jsonb,
        delay double precision, iteration integer, phase text, attempt integer, input_dataset_id text
    )
), created AS (
    INSERT INTO tasks (task_id, version, digest, spec, state)
    SELECT task_id, version, digest, spec, state FROM new ORDER BY task_id
    ON CONFLICT (task_id) DO NOTHING
    RETURNING task_id, version, status, digest, created_at, updated_at
), started AS MATERIALIZED (
    SELECT task_id, created.version, status, actor, start_id, start
    FROM created JOIN new USING (task_id)
    WHERE start IS NOT NULL
), received AS (
    INSERT INTO inbox (message_id, task_id) SELECT start_id, task_id FROM started
), recorded AS (
    INSERT INTO task_events (task_id, version, kind, outcome, status, actor, event)
    SELECT task_id, 1, 'create_task', 'applied', first, actor, spec FROM created JOIN new USING (task_id)
    UNION ALL
    SELECT task_id, version, start ->> 'kind', 'applied', status, actor, start FROM started
), dispatched AS (
    INSERT INTO attempts (task_id, iteration, phase, attempt, state, command_id, input_dataset_id, due_at)
    SELECT task_id, iteration, phase, attempt, 'dispatched', message.message_id, input_dataset_id,
           now() + make_interval(secs => delay)
    FROM started JOIN message USING (task_id)
), stored AS (
    INSERT INTO outbox (message_id, task_id, exchange, routing_key, body, headers, available_at, locked_until)
    SELECT message_id, task_id, exchange, routing_key, body, headers, now() + make_interval(secs => delay),
           now() + make_interval(secs => CASE WHEN delay > 0 THEN delay ELSE $3::double precision END)
    FROM started JOIN message USING (task_id)
    RETURNING id, message_id, available_at
)
SELECT task_id, digest, NULL::text AS task, created_at, updated_at, NULL::bigint AS outbox_id,
       NULL::uuid AS message_id
FROM created
UNION ALL
SELECT existing.*, NULL::bigint, NULL::uuid
FROM new CROSS JOIN LATERAL (
    SELECT task_id, digest,
           (state || jsonb_build_object('task_id', task_id, 'version', version, 'spec', spec))::text,
           created_at, updated_at
    FROM tasks
    WHERE tasks.task_id = new.task_id
    OFFSET 0
) AS existing
UNION ALL
SELECT NULL::uuid, NULL::text, NULL::text, NULL::timestamptz, NULL::timestamptz, id, message_id FROM stored WHERE available_at <= now();
