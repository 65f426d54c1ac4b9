-- Finds the stale events of a task, of which only a limited number is recorded.
CREATE INDEX task_events_stale ON task_events (task_id) WHERE outcome = 'stale';
