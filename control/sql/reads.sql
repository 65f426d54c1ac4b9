-- name: task
SELECT (state || jsonb_build_object('task_id', task_id, 'version', version, 'spec', spec))::text AS task,
       created_at, updated_at
FROM tasks
WHERE task_id = $1;

-- name: tasks
-- $1 status, $2 user id, $3 mode (NULL: any), $4 page size, $5 rows to skip. Newest first. The subquery finds the page
-- in an index, because rows are big and only those of the page should be read.
SELECT (state || jsonb_build_object('task_id', task_id, 'version', version, 'spec', spec))::text AS task,
       created_at, updated_at
FROM tasks JOIN (
    SELECT task_id
    FROM tasks
    WHERE ($1::text IS NULL OR CASE
          WHEN $1 IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN final_status = $1 ELSE final_status = 'NONE' AND status = $1 END)
      AND ($2::bigint IS NULL OR user_id = $2)
      AND ($3::text IS NULL OR mode = $3)
    ORDER BY created_at DESC, task_id DESC
    LIMIT $4 OFFSET $5
) AS page USING (task_id)
ORDER BY created_at DESC, task_id DESC;

-- name: count_tasks
-- $1 status, $2 user id, $3 mode (NULL: any).
SELECT count(*)
FROM tasks
WHERE ($1::text IS NULL OR CASE
      WHEN $1 IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN final_status = $1 ELSE final_status = 'NONE' AND status = $1 END)
  AND ($2::bigint IS NULL OR user_id = $2)
  AND ($3::text IS NULL OR mode = $3);

-- name: counts
SELECT status, count(*) AS tasks FROM tasks WHERE final_status = 'NONE' GROUP BY status
UNION ALL
SELECT final_status, count(*) FROM tasks WHERE final_status <> 'NONE' GROUP BY final_status;

-- name: attempts
-- $1 task ids, $2 page size (NULL: all), $3 rows to skip, $4 iteration (NULL: any). Oldest first.
SELECT * FROM attempts WHERE task_id = ANY ($1) AND ($4::integer IS NULL OR iteration = $4)
ORDER BY created_at, task_id, iteration, phase, attempt LIMIT $2 OFFSET $3;

-- name: task_clock
-- $1 task id. Returns its ended attempts (status is NULL, began_at is when the command was due), then the times in which
-- it was SUSPENDED or FAILED, each oldest first.
(
    SELECT NULL AS status, due_at AS began_at, claimed_at, ended_at,
           (event ->> 'work_seconds')::double precision AS work_seconds
    FROM attempts
    WHERE task_id = $1 AND ended_at IS NOT NULL
    ORDER BY ended_at
)
UNION ALL
(
    SELECT status, at, NULL, until, NULL
    FROM (
        SELECT id, status, at, lead(at) OVER (ORDER BY id) AS until
        FROM task_events
        WHERE task_id = $1 AND version IS NOT NULL
    ) AS period
    WHERE status IN ('SUSPENDED', 'FAILED')
    ORDER BY id
);

-- name: attempt
-- $1 task id, $2 iteration, $3 phase, $4 attempt.
SELECT * FROM attempts WHERE task_id = $1 AND iteration = $2 AND phase = $3 AND attempt = $4;

-- name: history
-- $1 task id, $2 the id after which to begin, $3 limit.
SELECT id, task_id, version, kind, outcome, status, actor, reason, event, at
FROM task_events
WHERE task_id = $1 AND id > $2
ORDER BY id
LIMIT $3;

-- name: now
SELECT clock_timestamp();

-- name: add_dataset
INSERT INTO datasets (dataset_id, name, storage_path, file_size, sample_count, dataset_type, domain, user_id,
                      is_optimized, source_dataset_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (dataset_id) DO NOTHING;

-- name: find_datasets
-- $1 dataset ids.
SELECT * FROM datasets WHERE dataset_id = ANY ($1);

-- name: datasets
-- $1 user id, $2 page size, $3 rows to skip. Newest first.
SELECT * FROM datasets WHERE user_id = $1 ORDER BY created_at DESC, dataset_id DESC LIMIT $2 OFFSET $3;

-- name: model
-- $1 task id, $2 iteration.
SELECT source FROM models WHERE task_id = $1 AND iteration = $2;

-- name: newest_model
-- $1 task id. For tasks without an evaluated iteration; the best model of the others is in the state of the task.
SELECT source FROM models WHERE task_id = $1 ORDER BY iteration DESC LIMIT 1;
