-- Durable deliveries: where they go, how far each is, and what could not be delivered.

-- What was asked for. Secrets are in `sealed` alone, encrypted by the sidecar.
CREATE TABLE integratedb.channel (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stakeholder_id   bigint NOT NULL,
    name             text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('SOCKET', 'WEBHOOK', 'REDIS')),
    settings         jsonb NOT NULL,
    sealed           bytea,
    -- Raised whenever the one that delivers has to begin anew: with other settings, or with what was replayed.
    version          bigint NOT NULL DEFAULT 1,
    is_paused        boolean NOT NULL DEFAULT false,
    -- Why the sidecar itself gave it up.
    disabled_because text,
    inserted_at      timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (stakeholder_id, name)
);

-- Written by the one that delivers, often: so it is a table of its own, of short rows with room for the next.
CREATE TABLE integratedb.channel_state (
    channel_id        bigint PRIMARY KEY REFERENCES integratedb.channel ON DELETE CASCADE,
    -- Whoever begins to deliver raises it; whoever has another number writes nothing any more.
    lease             bigint NOT NULL DEFAULT 0,
    -- The cursor: what comes after this change of the log is not delivered, dead, or in channel_delivery.
    epoch             integer NOT NULL,
    lsn               pg_lsn NOT NULL,
    index             bigint NOT NULL,
    -- Requests, and those that failed.
    attempts          bigint NOT NULL DEFAULT 0,
    failures          bigint NOT NULL DEFAULT 0,
    delivered         bigint NOT NULL DEFAULT 0,
    -- Since when nothing at all went well.
    failing_since     timestamptz,
    last_error        text,
    next_attempt_at   timestamptz,
    last_delivered_at timestamptz
) WITH (fillfactor = 50);

-- Events that failed, and those that wait behind them for the sake of their order. A few at most.
CREATE TABLE integratedb.channel_delivery (
    channel_id      bigint NOT NULL REFERENCES integratedb.channel ON DELETE CASCADE,
    epoch           integer NOT NULL,
    lsn             pg_lsn NOT NULL,
    index           bigint NOT NULL,
    -- Whose order it belongs to.
    keys            bytea NOT NULL,
    commit_micros   bigint NOT NULL,
    -- The JSON as it was to be sent, with its members in their order.
    event           text NOT NULL,
    -- The id under which it was sent, maybe with others; none if it was not yet.
    delivery        text,
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    error           text,
    PRIMARY KEY (channel_id, epoch, lsn, index)
);

-- Events that were given up.
CREATE TABLE integratedb.dead_letter (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id    bigint NOT NULL REFERENCES integratedb.channel ON DELETE CASCADE,
    epoch         integer NOT NULL,
    lsn           pg_lsn NOT NULL,
    index         bigint NOT NULL,
    keys          bytea NOT NULL,
    commit_micros bigint NOT NULL,
    event         text NOT NULL,
    attempts      integer NOT NULL,
    error         text NOT NULL,
    inserted_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (channel_id, epoch, lsn, index)
);
CREATE INDEX ON integratedb.dead_letter (channel_id, id);
