-- Who may steer the installation itself: users, stakeholders, claims, sync, the caches of the configuration file. Whoever
-- was a user before workspaces came could do all of that.
ALTER TABLE integratedb.users ADD COLUMN operator boolean NOT NULL DEFAULT true;

-- A workspace owns caches and applications; its members may see and change them as their role says.
CREATE TABLE integratedb.workspace (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE integratedb.workspace_member (
    workspace_id bigint NOT NULL REFERENCES integratedb.workspace ON DELETE CASCADE,
    user_id      bigint NOT NULL REFERENCES integratedb.users ON DELETE CASCADE,
    role         text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX ON integratedb.workspace_member (user_id);

-- A cache that was made over REST; those of the configuration file are not here. Its rules are in cache_rules.
CREATE TABLE integratedb.cache (
    id           text PRIMARY KEY,
    -- The order of lists.
    number       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    workspace_id bigint NOT NULL REFERENCES integratedb.workspace,
    name         text NOT NULL,
    type         text NOT NULL CHECK (type = 'postgres'),
    hostname     text NOT NULL,
    port         integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    -- What was set of it, without secrets.
    settings     jsonb NOT NULL DEFAULT '{}',
    -- The credentials of the users that the settings name, sealed.
    credentials  bytea,
    -- Rises with each change, so that every sidecar notices.
    version      bigint NOT NULL DEFAULT 1,
    inserted_at  timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workspace_id, name)
);

-- A third party that may ask users for access to a workspace of theirs. It belongs to a user or to a workspace.
CREATE TABLE integratedb.oauth_application (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id     text NOT NULL UNIQUE,
    user_id       bigint REFERENCES integratedb.users ON DELETE CASCADE,
    workspace_id  bigint REFERENCES integratedb.workspace ON DELETE CASCADE,
    name          text NOT NULL,
    -- The SHA-256 of a secret of 256 random bits; none of a public client, which can keep none.
    secret_hash   bytea,
    scopes        text[] NOT NULL,
    redirect_uris text[] NOT NULL,
    homepage_url  text,
    logo_url      text,
    inserted_at   timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(user_id, workspace_id) = 1)
);
CREATE INDEX ON integratedb.oauth_application (user_id);
CREATE INDEX ON integratedb.oauth_application (workspace_id);

-- What a user has agreed to: this application, in this workspace, with these scopes. Revoking removes it, and with it all
-- that was handed out.
CREATE TABLE integratedb.oauth_grant (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    application_id bigint NOT NULL REFERENCES integratedb.oauth_application ON DELETE CASCADE,
    user_id        bigint NOT NULL REFERENCES integratedb.users ON DELETE CASCADE,
    workspace_id   bigint NOT NULL REFERENCES integratedb.workspace ON DELETE CASCADE,
    scopes         text[] NOT NULL,
    inserted_at    timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (application_id, user_id, workspace_id)
);
CREATE INDEX ON integratedb.oauth_grant (user_id);
CREATE INDEX ON integratedb.oauth_grant (workspace_id);

-- A code that waits to be traded for tokens. It is kept after that until it has run out, to notice its second use.
CREATE TABLE integratedb.oauth_code (
    code_hash      bytea PRIMARY KEY,
    grant_id       bigint NOT NULL REFERENCES integratedb.oauth_grant ON DELETE CASCADE,
    redirect_uri   text NOT NULL,
    -- BASE64URL(SHA256(verifier)), RFC 7636.
    code_challenge text NOT NULL,
    scopes         text[] NOT NULL,
    -- Of all tokens that came from it.
    family         uuid NOT NULL,
    used_at        timestamptz,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX ON integratedb.oauth_code (grant_id);
CREATE INDEX ON integratedb.oauth_code (expires_at);

-- A pair of tokens. One whose refresh token was used stays until that has run out, to notice its second use.
CREATE TABLE integratedb.oauth_token (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grant_id           bigint NOT NULL REFERENCES integratedb.oauth_grant ON DELETE CASCADE,
    family             uuid NOT NULL,
    scopes             text[] NOT NULL,
    -- Those of the refresh token, which may be more than the token was asked for.
    refresh_scopes     text[] NOT NULL,
    token_hash         bytea NOT NULL UNIQUE,
    token_expires_at   timestamptz NOT NULL,
    refresh_hash       bytea NOT NULL UNIQUE,
    refresh_expires_at timestamptz NOT NULL,
    refreshed_at       timestamptz,
    inserted_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON integratedb.oauth_token (grant_id);
CREATE INDEX ON integratedb.oauth_token (family);
CREATE INDEX ON integratedb.oauth_token (refresh_expires_at);

-- Who is logged in at the pages of /oauth2.
CREATE TABLE integratedb.browser_session (
    cookie_hash bytea PRIMARY KEY,
    user_id     bigint NOT NULL REFERENCES integratedb.users ON DELETE CASCADE,
    expires_at  timestamptz NOT NULL,
    inserted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON integratedb.browser_session (user_id);
CREATE INDEX ON integratedb.browser_session (expires_at);

-- Who changed what, when, and what it was before and after; without secrets. It outlives what it tells of.
CREATE TABLE integratedb.audit_event (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT now(),
    -- None: it is about the installation.
    workspace_id     bigint,
    user_id          bigint,
    username         text,
    application_id   bigint,
    application_name text,
    address          inet,
    -- As 'cache.create'.
    action           text NOT NULL,
    -- The path of what was changed.
    subject          text NOT NULL,
    before           jsonb,
    after            jsonb
);
CREATE INDEX ON integratedb.audit_event (workspace_id, id);
CREATE INDEX ON integratedb.audit_event (at);

-- For pages of a stakeholder's backfills.
CREATE INDEX ON integratedb.backfill (stakeholder_id, id);

-- What was answered to a POST with an Idempotency-Key, for who sends it again.
CREATE TABLE integratedb.idempotency_key (
    -- The SHA-256 of who sent it and of the key.
    key_hash     bytea PRIMARY KEY,
    -- The HMAC of method, path and body, by what only the sender knows: a body may have a password.
    request_hash bytea NOT NULL,
    -- Status, headers and body, sealed by what only the sender knows; none while it is under way.
    answer       bytea,
    started_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL
);
CREATE INDEX ON integratedb.idempotency_key (expires_at);
