-- Keys that a ceremony is about to generate. The CKA_ID is on record before the key is in the token, so
-- that no key is there that no record names.

CREATE TABLE planned_key (
    id           INTEGER PRIMARY KEY,
    authority    INTEGER NOT NULL REFERENCES authority,
    role         TEXT NOT NULL CHECK (role IN ('root', 'issuing')),
    token        TEXT NOT NULL,
    token_serial TEXT NOT NULL,
    key_id       BLOB NOT NULL,
    label        TEXT NOT NULL,
    kind         TEXT NOT NULL,
    path_len     INTEGER,
    issuer       INTEGER REFERENCES issuer,  -- once the key is on record
    dropped_at   INTEGER,                    -- nobody may record it any more
    planned_at   INTEGER NOT NULL,
    planned_by   TEXT NOT NULL,
    CHECK (issuer IS NULL OR dropped_at IS NULL),
    UNIQUE (token, key_id)
) STRICT;
CREATE INDEX planned_key_open ON planned_key (authority) WHERE issuer IS NULL AND dropped_at IS NULL;

CREATE TRIGGER planned_key_update BEFORE UPDATE ON planned_key
WHEN OLD.issuer IS NOT NULL OR OLD.dropped_at IS NOT NULL OR NEW.id <> OLD.id
  OR NEW.authority <> OLD.authority OR NEW.role <> OLD.role OR NEW.token <> OLD.token
  OR NEW.key_id <> OLD.key_id OR NEW.planned_at <> OLD.planned_at
BEGIN SELECT RAISE(ABORT, 'a planned key stays as it is, and never changes once it is recorded or dropped'); END;
CREATE TRIGGER planned_key_delete BEFORE DELETE ON planned_key
BEGIN SELECT RAISE(ABORT, 'a planned key is never deleted'); END;
