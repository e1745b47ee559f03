-- Accounts of the REST API and their tokens. A password is kept as its argon2id hash, a token as its SHA-256.
CREATE TABLE integratedb.users (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    username      text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    inserted_at   timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- What one login handed out: a token for requests and a refresh token for the next pair.
CREATE TABLE integratedb.token_pairs (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id            bigint NOT NULL REFERENCES integratedb.users ON DELETE CASCADE,
    token_hash         bytea NOT NULL UNIQUE,
    token_expires_at   timestamptz NOT NULL,
    refresh_hash       bytea NOT NULL UNIQUE,
    refresh_expires_at timestamptz NOT NULL,
    inserted_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON integratedb.token_pairs (user_id);
CREATE INDEX ON integratedb.token_pairs (refresh_expires_at);
