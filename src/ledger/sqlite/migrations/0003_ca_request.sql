-- Requests to an upstream CA for the certificate of an issuing key. The CKA_ID is on record before the
-- key is generated, so that no key is ever in a token that no record names.

CREATE TABLE ca_request (
    id              INTEGER PRIMARY KEY,
    authority       INTEGER NOT NULL REFERENCES authority,
    upstream        TEXT NOT NULL,        -- its name in the configuration
    token           TEXT NOT NULL,
    token_serial    TEXT NOT NULL,
    key_id          BLOB NOT NULL,
    label           TEXT NOT NULL,
    kind            TEXT NOT NULL,        -- of the key
    path_len        INTEGER,
    issuer          INTEGER REFERENCES issuer,  -- once the key exists
    state           TEXT NOT NULL CHECK (state IN
        ('prepared', 'submitted', 'pending', 'received', 'activated', 'refused', 'cancelled')),
    csr             BLOB,
    reference       TEXT,                 -- of the upstream CA
    problem         TEXT,                 -- why the last attempt failed, or why the request ended
    attempts        INTEGER NOT NULL DEFAULT 0,  -- since the state was reached
    attempt_by      TEXT,                 -- the instance that is making one
    next_attempt_at INTEGER NOT NULL,     -- or when another instance may make it
    created_at      INTEGER NOT NULL,
    created_by      TEXT NOT NULL,
    changed_at      INTEGER NOT NULL,
    ended_at        INTEGER,
    CHECK ((state IN ('activated', 'refused', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (state IN ('prepared', 'cancelled') OR (issuer IS NOT NULL AND csr IS NOT NULL)),
    CHECK (state <> 'pending' OR reference IS NOT NULL)
) STRICT;
-- One request in flight for an authority, whichever server makes it.
CREATE UNIQUE INDEX ca_request_in_flight ON ca_request (authority) WHERE ended_at IS NULL;

-- What the upstream CA answered with, while it waits to be used.
CREATE TABLE ca_answer (
    request  INTEGER NOT NULL REFERENCES ca_request,
    position INTEGER NOT NULL,
    der      BLOB NOT NULL,
    PRIMARY KEY (request, position)
) STRICT;

CREATE TRIGGER ca_request_update BEFORE UPDATE ON ca_request
WHEN OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.authority <> OLD.authority
  OR NEW.upstream <> OLD.upstream OR NEW.token <> OLD.token OR NEW.created_at <> OLD.created_at
  OR (OLD.issuer IS NOT NULL AND NEW.issuer IS NOT OLD.issuer)
  OR (OLD.csr IS NOT NULL AND NEW.csr IS NOT OLD.csr)
BEGIN SELECT RAISE(ABORT, 'a request to an upstream CA keeps its key, and never changes once it has ended'); END;
CREATE TRIGGER ca_request_delete BEFORE DELETE ON ca_request
BEGIN SELECT RAISE(ABORT, 'a request to an upstream CA is never deleted'); END;
