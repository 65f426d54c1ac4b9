-- Options that had no upper bound in an earlier version get the largest value allowed now; else their tasks could not be
-- read any more, nor could a page that lists them.
ALTER TABLE tasks DISABLE TRIGGER a_request_never_changes, DISABLE TRIGGER version_grows_by_one;

UPDATE tasks SET spec = jsonb_set(spec, '{hyperparameters,checkpoint_every}', '2147483647')
WHERE (spec #>> '{hyperparameters,checkpoint_every}')::numeric > 2147483647;

UPDATE tasks SET spec = jsonb_set(spec, '{stop,gpu_seconds}', '1e12')
WHERE (spec #>> '{stop,gpu_seconds}')::numeric > 1e12;

UPDATE tasks SET spec = jsonb_set(spec, '{stop,labels}', '9223372036854775807')
WHERE (spec #>> '{stop,labels}')::numeric > 9223372036854775807;

ALTER TABLE tasks ENABLE TRIGGER a_request_never_changes, ENABLE TRIGGER version_grows_by_one;
