-- What a worker reports about its machine. `unfit` says why it takes no commands; `gpus` is an array of GPU states.
ALTER TABLE workers
    ADD COLUMN free_disk bigint CHECK (free_disk >= 0),
    ADD COLUMN gpus jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN unfit text;
