-- What most changes touch, no index names: then an update is HOT, and writes one row instead of one row and an entry
-- in every index. Pages keep room for the newer version of their rows.

-- A status changes with every event, the way a task ended once. Tasks under way are few and are looked at one by one.
ALTER TABLE tasks ADD COLUMN ending text NOT NULL GENERATED ALWAYS AS (
    CASE WHEN state ->> 'status' IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN state ->> 'status' ELSE 'NONE' END
) STORED;
DROP INDEX tasks_by_status;
CREATE INDEX tasks_by_ending ON tasks (ending, created_at DESC, task_id DESC);
-- With what a list may be filtered by: rows are big, and counting them should not read them.
DROP INDEX tasks_newest;
CREATE INDEX tasks_newest ON tasks (created_at DESC, task_id DESC) INCLUDE (user_id, mode, ending);
ALTER TABLE tasks SET (fillfactor = 60);

-- What was asked is most of a row. The log of an update on one page leaves out how both versions begin, so what changes
-- goes behind it, and a row of usual size is not packed anew with each update.
DROP TRIGGER version_grows_by_one ON tasks;
ALTER TABLE tasks ADD COLUMN behind integer CHECK (behind > 0);
UPDATE tasks SET behind = version;
ALTER TABLE tasks DROP COLUMN version;
ALTER TABLE tasks RENAME COLUMN behind TO version;
ALTER TABLE tasks ALTER COLUMN version SET NOT NULL;
CREATE TRIGGER version_grows_by_one BEFORE UPDATE ON tasks
    FOR EACH ROW WHEN (NEW.version <> OLD.version + 1) EXECUTE FUNCTION refuse('a version grows by one');
ALTER TABLE tasks SET (toast_tuple_target = 4080);

-- A claim changes the state, the end comes once. `ended_by_an_event` says that both conditions mean the same.
-- Live attempts are few: what is running, and what waits for its claim, is found among them.
ALTER TABLE phase_runs DROP CONSTRAINT one_live_run_a_task;
ALTER TABLE phase_runs ADD CONSTRAINT one_live_run_a_task EXCLUDE USING btree (task_id WITH =)
    WHERE (ended_at IS NULL) DEFERRABLE INITIALLY IMMEDIATE;
DROP INDEX phase_runs_running;
DROP INDEX phase_runs_dispatched;

-- Derived from the primary key, so unique as that is.
ALTER TABLE phase_runs DROP CONSTRAINT phase_runs_command_id_key;

-- A completed evaluation leaves nothing behind: it is marked when it ends.
UPDATE phase_runs SET cleaned_at = now() WHERE phase = 'evaluate' AND state = 'completed' AND cleaned_at IS NULL;
DROP INDEX phase_runs_uncleaned;
CREATE INDEX phase_runs_uncleaned ON phase_runs (ended_at) WHERE cleaned_at IS NULL AND ended_at IS NOT NULL;
ALTER TABLE phase_runs SET (fillfactor = 50);

-- A history is read by its task.
ALTER TABLE task_events DROP CONSTRAINT task_events_pkey;
DROP INDEX task_events_of_a_task;
ALTER TABLE task_events ADD PRIMARY KEY (task_id, id);

-- Only a turn of the loop is looked for by its task.
DROP INDEX outbox_of_a_task;
CREATE INDEX outbox_turns ON outbox (task_id) WHERE routing_key = 'next_iteration';
