-- Sync: the present state of models, brought to outside systems.
--
-- What there is to do is told by these tables themselves: a row of sync_update or sync_state with `due_at` in the past is
-- work. Whoever takes it writes a number of its own into `lease` and when that ends into `due_at`. So one that dies gives
-- its work back by being silent, and one that comes late finds another's number and changes nothing.

-- Whose models they are.
CREATE TABLE integratedb.sync_tenant (
    -- Given by the API that the models come from; that of a stakeholder is negative.
    id             bigint PRIMARY KEY,
    -- Its models are rows of this database's tables.
    stakeholder_id bigint UNIQUE,
    -- Its models come from this API. The token for it is sealed.
    endpoint       text,
    sealed         bytea,
    version        bigint NOT NULL DEFAULT 1,
    inserted_at    timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CHECK ((id < 0) = (stakeholder_id IS NOT NULL)),
    CHECK ((stakeholder_id IS NULL) = (endpoint IS NOT NULL)),
    CHECK ((endpoint IS NULL) = (sealed IS NULL))
);
CREATE SEQUENCE integratedb.sync_stakeholder_tenant INCREMENT BY -1 MAXVALUE -1 START WITH -1;

-- Kinds of models that a tenant has declared itself; those of Zync are known without.
CREATE TABLE integratedb.sync_class (
    tenant_id   bigint NOT NULL REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    name        text NOT NULL,
    definition  jsonb NOT NULL,
    -- The tables under which the log tells its changes, and since when it does: if these are others, it may have told less.
    published   jsonb,
    -- What is still to be gone through: rows from the first, `{}`, or after a key, `{"after": […]}`; then models after an
    -- id, `{"models": 7}`. None if nothing is.
    scan        jsonb,
    -- How many rows the last scan has met.
    scanned     bigint NOT NULL DEFAULT 0,
    -- Why its changes are not followed at present.
    error       text,
    version     bigint NOT NULL DEFAULT 1,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

-- How far changes of tables are followed, by the ids of events.
CREATE TABLE integratedb.sync_follower (
    tenant_id bigint PRIMARY KEY REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    epoch     integer NOT NULL,
    lsn       pg_lsn NOT NULL,
    index     bigint NOT NULL
);

-- What is known of a model without asking: its key, its parent, and what a notification said besides.
CREATE TABLE integratedb.sync_record (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    class     text NOT NULL,
    key       text NOT NULL,
    parent_id bigint,
    data      jsonb NOT NULL DEFAULT '{}',
    UNIQUE (tenant_id, class, key),
    UNIQUE (tenant_id, id),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES integratedb.sync_record (tenant_id, id)
);
CREATE INDEX ON integratedb.sync_record (parent_id);

-- A record that somebody was notified of. (A parent may be no more than a record.)
CREATE TABLE integratedb.sync_model (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    record_id   bigint NOT NULL UNIQUE,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant_id, record_id) REFERENCES integratedb.sync_record (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX ON integratedb.sync_model (tenant_id, id);

-- What was said over REST. A table's changes are in the event log.
CREATE TABLE integratedb.sync_notification (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    model_id    bigint NOT NULL REFERENCES integratedb.sync_model ON DELETE CASCADE,
    data        jsonb NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON integratedb.sync_notification (model_id);
CREATE INDEX ON integratedb.sync_notification (tenant_id, inserted_at);

-- A model's update: the lock under which it is fetched, and how that went.
CREATE TABLE integratedb.sync_update (
    model_id    bigint PRIMARY KEY REFERENCES integratedb.sync_model ON DELETE CASCADE,
    tenant_id   bigint NOT NULL,
    -- Notifications so far, those that the fetch under way has seen, and those that are answered by an entry.
    notified    bigint NOT NULL DEFAULT 1,
    taken       bigint NOT NULL DEFAULT 0,
    fetched     bigint NOT NULL DEFAULT 0,
    due_at      timestamptz,
    lease       bigint,
    -- The latest entry, and whether it says that the model is gone.
    entry_id    bigint,
    is_gone     boolean NOT NULL DEFAULT false,
    attempts    integer NOT NULL DEFAULT 0,
    started_at  timestamptz,
    finished_at timestamptz,
    success     boolean,
    error       text
) WITH (fillfactor = 70);
CREATE INDEX ON integratedb.sync_update (tenant_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sync_update_failing ON integratedb.sync_update (tenant_id, model_id) WHERE NOT success;

-- The log: what was fetched, in the order in which it was. A model that is gone has neither data nor sealed data.
CREATE TABLE integratedb.sync_entry (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL,
    model_id    bigint NOT NULL REFERENCES integratedb.sync_model ON DELETE CASCADE,
    is_gone     boolean NOT NULL,
    data        json,
    sealed      bytea,
    inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (is_gone = (data IS NULL AND sealed IS NULL))
);
CREATE INDEX ON integratedb.sync_entry (model_id, id);
CREATE INDEX ON integratedb.sync_entry (inserted_at);

-- Where models go.
CREATE TABLE integratedb.sync_integration (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   bigint NOT NULL REFERENCES integratedb.sync_tenant ON DELETE CASCADE,
    name        text NOT NULL,
    -- Only this model and those below it; none: all of the tenant's.
    model_id    bigint REFERENCES integratedb.sync_model ON DELETE CASCADE,
    kind        text NOT NULL,
    -- Only these classes; none: all.
    classes     text[],
    settings    jsonb NOT NULL,
    sealed      bytea,
    -- An entry of the source said that it should be: the next one may say otherwise.
    is_derived  boolean NOT NULL DEFAULT false,
    concurrency integer NOT NULL CHECK (concurrency > 0),
    state       text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled')),
    version     bigint NOT NULL DEFAULT 1,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
CREATE INDEX ON integratedb.sync_integration (model_id);

-- How a model is at an integration: the lock under which it is pushed, and how that went.
CREATE TABLE integratedb.sync_state (
    integration_id bigint NOT NULL REFERENCES integratedb.sync_integration ON DELETE CASCADE,
    model_id       bigint NOT NULL REFERENCES integratedb.sync_model ON DELETE CASCADE,
    -- The entry to push, which is the model's latest, and the one that was pushed last: none after a replay has begun.
    wanted         bigint NOT NULL,
    is_gone        boolean NOT NULL,
    entry_id       bigint,
    -- Whether the target has the model: an attempt that may have changed it leaves 'unknown'.
    presence       text NOT NULL DEFAULT 'absent' CHECK (presence IN ('absent', 'unknown', 'present')),
    due_at         timestamptz,
    lease          bigint,
    -- The model that has to be pushed or deleted before.
    waits_for      bigint,
    attempts       integer NOT NULL DEFAULT 0,
    started_at     timestamptz,
    finished_at    timestamptz,
    -- The last time that it went well.
    succeeded_at   timestamptz,
    success        boolean,
    error          text,
    PRIMARY KEY (integration_id, model_id)
) WITH (fillfactor = 70);
CREATE INDEX ON integratedb.sync_state (integration_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX sync_state_failing ON integratedb.sync_state (integration_id, model_id) WHERE NOT success;
-- What a replay has yet to see arrive.
CREATE INDEX sync_state_never_pushed ON integratedb.sync_state (integration_id, model_id) WHERE entry_id IS NULL;
CREATE INDEX ON integratedb.sync_state (model_id);
CREATE INDEX ON integratedb.sync_state (integration_id, waits_for) WHERE waits_for IS NOT NULL;

-- A target that is compared with the log, and rebuilt from it.
CREATE TABLE integratedb.sync_replay (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    integration_id bigint NOT NULL REFERENCES integratedb.sync_integration ON DELETE CASCADE,
    is_dry_run     boolean NOT NULL,
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed', 'cancelled')),
    due_at         timestamptz NOT NULL DEFAULT now(),
    lease          bigint,
    -- A dry run compares. Else all states are marked first, then made due, then waited for.
    step           text NOT NULL CHECK (step IN ('compare', 'mark', 'push', 'wait')),
    -- The last model that was gone through in this step.
    last_model     bigint NOT NULL DEFAULT 0,
    -- What was found so far, by what has to be done about it.
    counts         jsonb NOT NULL DEFAULT '{}',
    error          text,
    inserted_at    timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    finished_at    timestamptz
);
CREATE INDEX ON integratedb.sync_replay (integration_id, id);
CREATE INDEX ON integratedb.sync_replay (due_at) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX sync_one_replay_at_a_time ON integratedb.sync_replay (integration_id) WHERE state IN ('pending', 'running');
CREATE TABLE integratedb.sync_difference (
    replay_id bigint NOT NULL REFERENCES integratedb.sync_replay ON DELETE CASCADE,
    model_id  bigint NOT NULL REFERENCES integratedb.sync_model ON DELETE CASCADE,
    action    text NOT NULL CHECK (action IN ('create', 'update', 'delete', 'unknown')),
    -- Names of fields that differ, or why it can't be told.
    detail    jsonb,
    PRIMARY KEY (replay_id, model_id)
);
CREATE INDEX ON integratedb.sync_difference (replay_id, action, model_id);
CREATE INDEX ON integratedb.sync_difference (model_id);
