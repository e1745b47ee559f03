-- What notifications are made of: changes in the order of their commits, some hundred or thousand in a row.

-- The segments of the log. The body is compressed by the sidecar.
CREATE TABLE integratedb.event_log (
    epoch       integer NOT NULL,
    last_lsn    pg_lsn NOT NULL,
    last_index  bigint NOT NULL,
    first_lsn   pg_lsn NOT NULL,
    first_index bigint NOT NULL,
    changes     integer NOT NULL,
    stored_at   timestamptz NOT NULL DEFAULT now(),
    -- Bytes of all bodies so far, this one's with them: tells how much is kept without counting it.
    total       bigint NOT NULL,
    body        bytea NOT NULL,
    PRIMARY KEY (epoch, last_lsn, last_index)
);
CREATE INDEX ON integratedb.event_log (stored_at);
CREATE INDEX ON integratedb.event_log (total);
ALTER TABLE integratedb.event_log ALTER COLUMN body SET STORAGE EXTERNAL;

-- One row: how far the log goes back, and what its next change is compared with.
CREATE TABLE integratedb.event_log_state (
    is_only       boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch         integer NOT NULL DEFAULT 1,
    -- The server whose positions the epoch's are, and its timeline.
    system_id     text,
    -- The slot that was made for this epoch: from then on its loss is a gap.
    slot          text,
    -- What was pruned: up to and with this change.
    pruned_epoch  integer NOT NULL DEFAULT 0,
    pruned_lsn    pg_lsn NOT NULL DEFAULT '0/0',
    pruned_index  bigint NOT NULL DEFAULT 0
);
INSERT INTO integratedb.event_log_state DEFAULT VALUES;
