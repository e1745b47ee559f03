-- What people decide about what a cache keeps. A cache is known by its id in the configuration.
CREATE TABLE integratedb.cache_rules (
    cache_id    text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('template', 'table', 'mode')),
    -- A template's id, a table as schema.name, or nothing for the mode.
    name        text NOT NULL,
    rule        jsonb NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cache_id, kind, name)
);
