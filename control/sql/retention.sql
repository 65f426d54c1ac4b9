-- Attempts whose artifacts may be deleted, and what may refer to them. An attempt is checked again and again until
-- `cleaned_at` is set, which means that none of its artifacts has to be deleted later, except its log: a log stays until
-- the task has ended, so an attempt that was cleaned before that is checked once more.

-- name: uncleaned
-- $1 seconds since the end, $2 limit. A completed optimization is left out until its task has ended, too.
-- The second part scans all attempts, so it comes last: it is read only if the first part does not fill the page.
(
    SELECT a.*
    FROM attempts AS a JOIN tasks AS task USING (task_id)
    WHERE a.cleaned_at IS NULL
      AND a.ended_at < now() - make_interval(secs => $1::double precision)
      AND (a.phase <> 'optimize' OR a.state <> 'completed' OR (
          task.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
          AND task.updated_at < now() - make_interval(secs => $1::double precision)
      ))
    ORDER BY a.ended_at
    LIMIT $2
)
UNION ALL
(
    SELECT a.*
    FROM attempts AS a JOIN tasks AS task USING (task_id)
    WHERE a.cleaned_at <= task.updated_at
      AND a.ended_at < now() - make_interval(secs => $1::double precision)
      AND task.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
    ORDER BY a.ended_at
    LIMIT $2
)
LIMIT $2;

-- name: referenced_prefixes
-- Prefixes of attempts that are inputs of a task or layers of a registered model.
SELECT DISTINCT found.reference
FROM (
    SELECT spec -> 'datasets' AS datasets, spec -> 'model' AS model FROM tasks
    UNION ALL
    SELECT NULL, source FROM models
) AS source_of, LATERAL (
    SELECT value ->> 'prefix' FROM jsonb_each(source_of.datasets)
    UNION ALL
    SELECT source_of.model ->> 'base'
    UNION ALL
    SELECT jsonb_array_elements_text(source_of.model -> 'adapters')
) AS found (reference)
WHERE found.reference ~ '^(artifact:)?(optimized|models|evaluations)/';

-- name: mark_cleaned
-- $1 attempts (an array of objects). The time is after the task's, also if a clock was set back.
UPDATE attempts AS a SET cleaned_at = greatest(now(), task.updated_at + interval '1 microsecond')
FROM jsonb_to_recordset($1::jsonb) AS cleaned (task_id uuid, iteration integer, phase text, attempt integer)
JOIN tasks AS task USING (task_id)
WHERE (a.task_id, a.iteration, a.phase, a.attempt)
    = (cleaned.task_id, cleaned.iteration, cleaned.phase, cleaned.attempt);

-- name: delete_datasets
-- $1 prefixes. A dataset that is an input of a task is kept.
DELETE FROM datasets AS dataset
WHERE is_optimized AND storage_path = ANY ($1::text[])
  AND NOT EXISTS (
      SELECT FROM tasks, jsonb_each(tasks.spec -> 'datasets') AS given
      WHERE given.value ->> 'dataset_id' = dataset.dataset_id
  );

-- name: old_inbox
-- $1 age in seconds. Rows of a task that has not ended are kept, because its messages may be delivered again.
SELECT count(*)
FROM inbox JOIN tasks AS task USING (task_id)
WHERE inbox.at < now() - make_interval(secs => $1::double precision)
  AND task.status IN ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: delete_workers
-- $1 seconds since the last request.
DELETE FROM workers WHERE seen_at < now() - make_interval(secs => $1::double precision);

-- name: delete_inbox
-- $1 age in seconds, $2 limit.
DELETE FROM inbox
WHERE message_id IN (
    SELECT message_id
    FROM inbox JOIN tasks AS task USING (task_id)
    WHERE inbox.at < now() - make_interval(secs => $1::double precision)
      AND task.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
    ORDER BY inbox.at
    LIMIT $2
)
RETURNING message_id;

-- name: dataset_paths
-- $1 the last path of the page before, $2 limit. The prefixes of all datasets, in order.
SELECT storage_path FROM datasets WHERE storage_path > $1 ORDER BY storage_path LIMIT $2;
