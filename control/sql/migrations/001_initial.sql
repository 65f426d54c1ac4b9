-- All data of control. The machine's decisions are in `tasks.state`. The columns generated from it serve filters and
-- CHECK constraints, so that an impossible row cannot be written.

-- An update of a task's row should be HOT (it writes no index entry), so most changes touch no indexed column, and the
-- fillfactor leaves space for the new version of a row in its page. `spec` is the largest part of a row and never
-- changes, so it comes before `state`. With this toast_tuple_target, a row of usual size is not compressed again at each
-- update.
CREATE TABLE tasks (
    task_id    uuid PRIMARY KEY,
    digest     text NOT NULL,
    spec       jsonb NOT NULL,
    state      jsonb NOT NULL,
    user_id    bigint GENERATED ALWAYS AS ((spec ->> 'user_id')::bigint) STORED NOT NULL,
    mode       text GENERATED ALWAYS AS (spec ->> 'mode') STORED NOT NULL,
    status     text GENERATED ALWAYS AS (state ->> 'status') STORED NOT NULL,
    resume_status       text GENERATED ALWAYS AS (state ->> 'resume_status') STORED,
    iteration  integer GENERATED ALWAYS AS ((state ->> 'iteration')::integer) STORED NOT NULL,
    attempt_active       boolean GENERATED ALWAYS AS ((state ->> 'attempt_active')::boolean) STORED NOT NULL,
    pausing    boolean GENERATED ALWAYS AS ((state ->> 'pausing')::boolean) STORED NOT NULL,
    -- The final status, or NONE. It is indexed instead of `status` because it changes only once.
    final_status     text GENERATED ALWAYS AS (
        CASE WHEN state ->> 'status' IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN state ->> 'status' ELSE 'NONE' END
    ) STORED NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version    integer NOT NULL CHECK (version > 0),

    CONSTRAINT mode_is_known CHECK (mode IN ('STANDARD', 'CONTINUOUS')),
    CONSTRAINT status_is_known CHECK (status IN (
        'PENDING', 'OPTIMIZING', 'TRAINING', 'EVALUATING', 'LOOPING', 'SUSPENDED', 'COMPLETED', 'FAILED', 'CANCELLED'
    )),
    CONSTRAINT resume_status_is_known CHECK (
        resume_status IN ('OPTIMIZING', 'TRAINING', 'EVALUATING') OR (resume_status = 'LOOPING' AND status = 'SUSPENDED')
    ),
    CONSTRAINT resume_status_while_suspended_or_failed CHECK ((status IN ('SUSPENDED', 'FAILED')) = (resume_status IS NOT NULL)),
    CONSTRAINT pending_before_the_first_iteration CHECK (
        iteration >= 0 AND (status <> 'PENDING' OR iteration = 0) AND (iteration > 0 OR status IN ('PENDING', 'CANCELLED'))
    ),
    CONSTRAINT attempt_active_while_active CHECK (
        CASE
            WHEN status IN ('OPTIMIZING', 'TRAINING', 'EVALUATING') THEN attempt_active
            WHEN status = 'SUSPENDED' THEN NOT (attempt_active AND resume_status = 'LOOPING')
            ELSE NOT attempt_active
        END
    ),
    CONSTRAINT ended_with_a_reason CHECK (
        (status IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (state ->> 'reason' IS NOT NULL)
    )
) WITH (fillfactor = 60, toast_tuple_target = 4080);
CREATE INDEX tasks_newest ON tasks (created_at DESC, task_id DESC) INCLUDE (user_id, mode, final_status);
CREATE INDEX tasks_by_final_status ON tasks (final_status, created_at DESC, task_id DESC);
CREATE INDEX tasks_by_user ON tasks (user_id, created_at DESC);
-- For the number of tasks that match a filter. Equal values share an index entry, so counting reads few pages.
CREATE INDEX tasks_counted ON tasks (user_id, mode, final_status);

CREATE FUNCTION reject_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER a_request_never_changes BEFORE UPDATE OF task_id, spec, digest, created_at ON tasks
    FOR EACH ROW EXECUTE FUNCTION reject_change('a request never changes');
CREATE TRIGGER version_grows_by_one BEFORE UPDATE ON tasks
    FOR EACH ROW WHEN (NEW.version <> OLD.version + 1) EXECUTE FUNCTION reject_change('a version grows by one');
-- Attempts, history and models are written from the rows of `tasks` that the same statement writes, and no task is ever
-- deleted. So they need no foreign key to `tasks`, which would look up each task again.
CREATE TRIGGER tasks_are_never_deleted BEFORE DELETE OR TRUNCATE ON tasks
    FOR EACH STATEMENT EXECUTE FUNCTION reject_change('attempts and history refer to it');


-- One row for each attempt. Claims and heartbeats change no indexed column, so they are cheap (HOT) updates.
CREATE TABLE attempts (
    task_id          uuid NOT NULL,
    iteration        integer NOT NULL CHECK (iteration > 0),
    phase            text NOT NULL CHECK (phase IN ('optimize', 'train', 'evaluate')),
    attempt          integer NOT NULL CHECK (attempt > 0),
    state            text NOT NULL CHECK (state IN (
        'dispatched', 'running', 'completed', 'failed', 'paused', 'lost', 'fenced', 'cancelled'
    )),
    command_id       uuid NOT NULL, -- derived from the primary key, so it is unique too
    input_dataset_id text,
    worker_id        text,
    claim_id         uuid,
    fraction         double precision CHECK (fraction BETWEEN 0 AND 1),
    checkpoint       text,
    gpu_seconds      double precision NOT NULL DEFAULT 0 CHECK (gpu_seconds >= 0),
    message          text,
    event            jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    due_at       timestamptz NOT NULL,
    claimed_at       timestamptz,
    lease_expires_at timestamptz,
    ended_at         timestamptz,
    cleaned_at       timestamptz CHECK (cleaned_at >= ended_at),
    PRIMARY KEY (task_id, iteration, phase, attempt),

    CONSTRAINT claimed_as_a_whole CHECK (num_nulls(worker_id, claim_id, claimed_at, lease_expires_at) IN (0, 4)),
    CONSTRAINT dispatched_is_unclaimed CHECK (state <> 'dispatched' OR claim_id IS NULL),
    CONSTRAINT running_has_a_lease CHECK (state <> 'running' OR claim_id IS NOT NULL),
    CONSTRAINT ended_by_an_event CHECK (
        num_nulls(ended_at, event) = CASE WHEN state IN ('dispatched', 'running') THEN 2 ELSE 0 END
    ),
    -- An exclusion constraint, not a partial unique index, because it is checked at the end of the statement: one
    -- statement ends an attempt and issues the next one in no defined order. Its index also finds active attempts.
    CONSTRAINT one_active_attempt_a_task EXCLUDE USING btree (task_id WITH =)
        WHERE (ended_at IS NULL) DEFERRABLE INITIALLY IMMEDIATE
) WITH (fillfactor = 50);
CREATE INDEX attempts_uncleaned ON attempts (ended_at) WHERE cleaned_at IS NULL AND ended_at IS NOT NULL;


CREATE TABLE task_events (
    id      bigint GENERATED ALWAYS AS IDENTITY,
    task_id uuid NOT NULL,
    version integer,
    kind    text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('applied', 'stale')),
    status  text NOT NULL,
    actor   text NOT NULL,
    reason  text,
    event   jsonb NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, id),
    UNIQUE (task_id, version),
    CONSTRAINT applied_makes_a_version CHECK ((outcome = 'applied') = (version IS NOT NULL))
);
CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON task_events
    FOR EACH STATEMENT EXECUTE FUNCTION reject_change('the history is append-only');


-- Messages that were handled, so that a message that is delivered again is recognized.
CREATE TABLE inbox (
    message_id uuid PRIMARY KEY,
    task_id    uuid NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX inbox_by_age ON inbox (at);

-- Messages to publish, kept until the broker has confirmed them. Until `locked_until`, only the process that locked a
-- row publishes it.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id   uuid NOT NULL UNIQUE,
    task_id      uuid NOT NULL,
    exchange     text NOT NULL,
    routing_key  text NOT NULL,
    body         text NOT NULL,
    headers      jsonb NOT NULL,
    available_at timestamptz NOT NULL,
    locked_until   timestamptz NOT NULL,
    CONSTRAINT locked_at_least_until_due CHECK (locked_until >= available_at)
);
CREATE INDEX outbox_free ON outbox (locked_until, id);
-- Only events `next_iteration` are searched by task.
CREATE INDEX outbox_next_iteration ON outbox (task_id) WHERE routing_key = 'next_iteration';


CREATE TABLE datasets (
    dataset_id        text PRIMARY KEY,
    name              text NOT NULL,
    storage_path      text NOT NULL,
    file_size         bigint NOT NULL CHECK (file_size >= 0),
    sample_count      bigint CHECK (sample_count >= 0),
    dataset_type      text NOT NULL,
    domain            text,
    user_id           bigint NOT NULL,
    is_optimized      boolean NOT NULL,
    source_dataset_id text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT optimized_has_a_source CHECK (is_optimized = (source_dataset_id IS NOT NULL))
);
CREATE INDEX datasets_by_user ON datasets (user_id, created_at DESC);

CREATE TABLE models (
    task_id    uuid NOT NULL,
    iteration  integer NOT NULL CHECK (iteration > 0),
    attempt    integer NOT NULL CHECK (attempt > 0),
    source     jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, iteration)
);

CREATE TABLE workers (
    worker_id text PRIMARY KEY,
    phase     text NOT NULL CHECK (phase IN ('optimize', 'train', 'evaluate')),
    host      text NOT NULL,
    slots     integer NOT NULL CHECK (slots > 0),
    busy      integer NOT NULL CHECK (busy >= 0),
    seen_at   timestamptz NOT NULL
);
