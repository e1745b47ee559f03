-- Present rows of tables on their way to a stakeholder, and how far each of these backfills is.
CREATE TABLE integratedb.backfill (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stakeholder_id bigint NOT NULL,
    -- The table as the stakeholder's spec has it.
    schema_name    text NOT NULL,
    table_name     text NOT NULL,
    state          text NOT NULL DEFAULT 'pending'
                   CHECK (state IN ('pending', 'running', 'paused', 'done', 'failed', 'cancelled')),
    chunk_rows     integer NOT NULL,
    -- The log's epoch: in another one, it begins again.
    epoch          integer NOT NULL DEFAULT 0,
    -- The table that is read, of a partitioned one the leaf; its key, by attribute numbers.
    relation       bigint,
    key_columns    smallint[],
    -- The key of the last row that was read, and whether that was the last of the table.
    last_key       text[],
    at_end         boolean NOT NULL DEFAULT false,
    relations_done bigint[] NOT NULL DEFAULT '{}',
    rows_done      bigint NOT NULL DEFAULT 0,
    rows_estimated bigint NOT NULL,
    error          text,
    inserted_at    timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz
);
CREATE UNIQUE INDEX backfill_one_at_a_time ON integratedb.backfill (stakeholder_id, schema_name, table_name)
    WHERE state IN ('pending', 'running', 'paused');

-- Rows that were passed, and have to be read once more: of a large value, the stream told only that it is as before.
CREATE TABLE integratedb.backfill_left (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    backfill_id bigint NOT NULL REFERENCES integratedb.backfill ON DELETE CASCADE,
    relation    bigint NOT NULL,
    key         text[] NOT NULL
);
CREATE INDEX ON integratedb.backfill_left (backfill_id, relation);
