-- What Zync keeps, and a table of jobs as its queue has.
CREATE SCHEMA IF NOT EXISTS zync;
CREATE TABLE IF NOT EXISTS zync.model (
    id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS zync.notification (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id    bigint NOT NULL REFERENCES zync.model,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS zync.update_state (
    model_id    bigint PRIMARY KEY REFERENCES zync.model,
    started_at  timestamptz,
    finished_at timestamptz,
    success     boolean
);
CREATE TABLE IF NOT EXISTS zync.entry (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id    bigint NOT NULL REFERENCES zync.model,
    data        jsonb,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS entry_of_model ON zync.entry (model_id, id);
CREATE TABLE IF NOT EXISTS zync.integration (id bigint PRIMARY KEY);
INSERT INTO zync.integration VALUES (1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS zync.integration_state (
    integration_id bigint NOT NULL REFERENCES zync.integration,
    model_id       bigint NOT NULL REFERENCES zync.model,
    entry_id       bigint REFERENCES zync.entry,
    started_at     timestamptz,
    finished_at    timestamptz,
    success        boolean,
    PRIMARY KEY (integration_id, model_id)
);
CREATE TABLE IF NOT EXISTS zync.job (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Update, ProcessEntry or ProcessIntegrationEntry; then what it is about.
    class          text NOT NULL,
    model_id       bigint,
    entry_id       bigint,
    integration_id bigint,
    run_at         timestamptz NOT NULL DEFAULT now(),
    failures       integer NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS job_in_turn ON zync.job (run_at, id);
CREATE INDEX IF NOT EXISTS job_of_model ON zync.job (class, model_id);
