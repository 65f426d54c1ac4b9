-- What may be cleaned, and what it may be referred to by. An attempt is looked at until `cleaned_at` says that nothing
-- of it will have to go later.

-- name: uncleaned
-- $1 seconds since the end, $2 how many. A result is left in place while its task has not ended.
SELECT run.*
FROM phase_runs AS run JOIN tasks AS task USING (task_id)
WHERE run.cleaned_at IS NULL
  AND run.ended_at < now() - make_interval(secs => $1::double precision)
  AND (run.phase <> 'optimize' OR run.state <> 'completed' OR (
      task.status IN ('COMPLETED', 'FAILED', 'CANCELLED')
      AND task.updated_at < now() - make_interval(secs => $1::double precision)
  ))
ORDER BY run.ended_at
LIMIT $2;

-- name: named
-- Prefixes of attempts that tasks were given, and that registered models are made of.
SELECT DISTINCT named.reference
FROM (
    SELECT spec -> 'datasets' AS datasets, spec -> 'model' AS model FROM tasks
    UNION ALL
    SELECT NULL, source FROM models
) AS one, LATERAL (
    SELECT value ->> 'prefix' FROM jsonb_each(one.datasets)
    UNION ALL
    SELECT one.model ->> 'base'
    UNION ALL
    SELECT jsonb_array_elements_text(one.model -> 'adapters')
) AS named (reference)
WHERE named.reference ~ '^(artifact:)?(optimized|models|evaluations)/';

-- name: mark_cleaned
-- $1 attempts (an array of objects).
UPDATE phase_runs AS run SET cleaned_at = now()
FROM jsonb_to_recordset($1::jsonb) AS cleaned (task_id uuid, iteration integer, phase text, attempt integer)
WHERE (run.task_id, run.iteration, run.phase, run.attempt)
    = (cleaned.task_id, cleaned.iteration, cleaned.phase, cleaned.attempt);

-- name: forget_datasets
-- $1 prefixes. A dataset that a task was given is kept.
DELETE FROM datasets AS dataset
WHERE is_optimized AND storage_path = ANY ($1::text[])
  AND NOT EXISTS (
      SELECT FROM tasks, jsonb_each(tasks.spec -> 'datasets') AS given
      WHERE given.value ->> 'dataset_id' = dataset.dataset_id
  );

-- name: old_inbox
-- $1 age in seconds. A task that has not ended may still meet its messages again.
SELECT count(*)
FROM inbox JOIN tasks AS task USING (task_id)
WHERE inbox.at < now() - make_interval(secs => $1::double precision)
  AND task.status IN ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: forget_inbox
-- $1 age in seconds, $2 how many.
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
