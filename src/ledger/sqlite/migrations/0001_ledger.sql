-- The ledger's first schema. Times are seconds since 1970. What is only ever added is guarded by
-- triggers, so that a mistake in a later version of the program cannot rewrite it.

PRAGMA application_id = 0x52424c47; -- RBLG

-- The records -----------------------------------------------------------------------------------

CREATE TABLE revision (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO revision VALUES (1, 0);

CREATE TABLE authority (
    id           INTEGER PRIMARY KEY,
    trust_domain TEXT NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    created_by   TEXT NOT NULL
) STRICT;

CREATE TABLE issuer (
    id         INTEGER PRIMARY KEY,
    key        TEXT NOT NULL UNIQUE,      -- IssuerId: what the public key hashes to
    authority  INTEGER NOT NULL REFERENCES authority,
    role       TEXT NOT NULL CHECK (role IN ('root', 'issuing')),
    state      TEXT NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    public_key BLOB NOT NULL,
    path_len   INTEGER,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

CREATE TABLE issuer_location (
    issuer       INTEGER NOT NULL REFERENCES issuer,
    token        TEXT NOT NULL,
    token_serial TEXT NOT NULL,
    key_id       BLOB NOT NULL,
    label        TEXT NOT NULL,
    PRIMARY KEY (issuer, token)
) STRICT;

CREATE TABLE ca_certificate (
    id         INTEGER PRIMARY KEY,
    issuer     INTEGER NOT NULL REFERENCES issuer,
    der        BLOB NOT NULL,
    sha256     BLOB NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    anchor     BLOB NOT NULL,             -- sha256 of the anchor
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    added_at   INTEGER NOT NULL,
    added_by   TEXT NOT NULL,
    UNIQUE (issuer, sha256, anchor)       -- one certificate may have a path to each of two anchors
) STRICT;

CREATE TABLE ca_path (
    ca_certificate INTEGER NOT NULL REFERENCES ca_certificate,
    position       INTEGER NOT NULL,
    der            BLOB NOT NULL,
    PRIMARY KEY (ca_certificate, position)
) STRICT;

CREATE TABLE anchor (
    id         INTEGER PRIMARY KEY,
    authority  INTEGER NOT NULL REFERENCES authority,
    sha256     BLOB NOT NULL,
    der        BLOB NOT NULL,
    origin     TEXT NOT NULL CHECK (origin IN ('own', 'upstream', 'foreign')),
    source     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'active', 'retired')),
    expires_at INTEGER,
    added_at   INTEGER NOT NULL,
    added_by   TEXT NOT NULL,
    retired_at INTEGER,
    CHECK ((state = 'retired') = (retired_at IS NOT NULL))
) STRICT;
-- A retired anchor may come again, as a new row.
CREATE UNIQUE INDEX anchor_in_use ON anchor (authority, sha256) WHERE state <> 'retired';

CREATE TABLE bundle (
    id         INTEGER PRIMARY KEY,
    authority  INTEGER NOT NULL REFERENCES authority,
    sequence   INTEGER NOT NULL,
    digest     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (authority, sequence)
) STRICT;

CREATE TABLE bundle_anchor (
    bundle   INTEGER NOT NULL REFERENCES bundle,
    position INTEGER NOT NULL,
    der      BLOB NOT NULL,
    PRIMARY KEY (bundle, position)
) STRICT;

CREATE TABLE operator_action (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    via    TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- The instances ---------------------------------------------------------------------------------

CREATE TABLE instance (
    name        TEXT PRIMARY KEY,
    boot        INTEGER NOT NULL,         -- its newest epoch
    lease       INTEGER NOT NULL,         -- seconds
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE epoch (
    id            INTEGER PRIMARY KEY,
    instance      TEXT NOT NULL REFERENCES instance,
    boot          INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    UNIQUE (instance, boot)
) STRICT;

-- What keys sign --------------------------------------------------------------------------------

CREATE TABLE intent (
    id                     INTEGER PRIMARY KEY,
    kind                   INTEGER NOT NULL,  -- 1 leaf, 2 ca, 3 request
    issuer                 INTEGER NOT NULL REFERENCES issuer,
    ca_certificate         INTEGER REFERENCES ca_certificate,
    serial                 BLOB,
    algorithm              INTEGER NOT NULL,  -- codes.rs
    not_before             INTEGER,
    not_after              INTEGER,
    subject                TEXT NOT NULL,
    profile                TEXT NOT NULL,
    spki_sha256            BLOB NOT NULL,
    bundle_digest          BLOB,
    caller_trust_domain    TEXT NOT NULL,
    caller                 TEXT NOT NULL,
    method                 INTEGER NOT NULL,  -- 1 jwt, 2 certificate, 3 operator, 4 local
    method_detail          TEXT NOT NULL,
    cluster                TEXT,
    pod                    TEXT,
    node                   TEXT,
    token_authenticated_at INTEGER,
    request_id             TEXT NOT NULL,
    epoch                  INTEGER NOT NULL REFERENCES epoch,
    origin                 TEXT,
    recorded_at            INTEGER NOT NULL,
    tbs                    BLOB NOT NULL,
    UNIQUE (issuer, serial)                   -- I2; serials begin with the time: mostly appended
) STRICT;
CREATE UNIQUE INDEX intent_origin ON intent (origin) WHERE origin IS NOT NULL;

-- A span is 4,096 intents in a row: searches walk spans from the newest back and pass those by
-- that cannot hold what is asked. Kept by the writer, never narrower than the truth.
CREATE TABLE span (
    span         INTEGER PRIMARY KEY,     -- intent.id >> 12
    recorded_min INTEGER NOT NULL,
    recorded_max INTEGER NOT NULL,
    expires_min  INTEGER NOT NULL,
    expires_max  INTEGER NOT NULL,
    issuers      INTEGER NOT NULL,        -- bit (issuer % 62) for each issuer in it
    sealed       INTEGER NOT NULL DEFAULT 0,  -- complete, and its subjects are in the table below
    settled      INTEGER NOT NULL DEFAULT 0   -- sealed, and every intent in it is concluded
) STRICT;
CREATE INDEX span_open ON span (span) WHERE settled = 0;

-- The subjects of sealed spans. A plain index would touch a random page of an ever larger tree with
-- every intent; so a span's subjects are sorted and appended once it is complete, and a search makes
-- one seek in each span.
CREATE TABLE span_subject (
    span    INTEGER NOT NULL REFERENCES span,
    subject TEXT NOT NULL,
    intent  INTEGER NOT NULL,
    PRIMARY KEY (span, subject, intent)
) STRICT, WITHOUT ROWID;

CREATE TABLE conclusion (
    intent       INTEGER PRIMARY KEY REFERENCES intent,
    state        INTEGER NOT NULL,        -- 1 issued, 2 failed, 3 unknown
    signature    BLOB,
    reason       TEXT,
    concluded_at INTEGER NOT NULL,
    CHECK (CASE state WHEN 1 THEN signature IS NOT NULL
                      WHEN 2 THEN signature IS NULL AND reason IS NOT NULL
                      WHEN 3 THEN signature IS NULL AND reason IS NOT NULL
                      ELSE 0 END)
) STRICT;
CREATE INDEX conclusion_not_issued ON conclusion (state, intent) WHERE state <> 1;

-- What never happens ----------------------------------------------------------------------------

CREATE TRIGGER intent_update BEFORE UPDATE ON intent
BEGIN SELECT RAISE(ABORT, 'an intent is never changed'); END;
CREATE TRIGGER intent_delete BEFORE DELETE ON intent
BEGIN SELECT RAISE(ABORT, 'an intent is never deleted'); END;

CREATE TRIGGER conclusion_update BEFORE UPDATE ON conclusion
WHEN NOT (NEW.intent = OLD.intent
    AND (OLD.state IN (2, 3) AND NEW.state = 1 OR OLD.state = 2 AND NEW.state = 3))
BEGIN SELECT RAISE(ABORT, 'a conclusion only changes from failed to unknown, and from either to issued'); END;
CREATE TRIGGER conclusion_delete BEFORE DELETE ON conclusion
BEGIN SELECT RAISE(ABORT, 'a conclusion is never deleted'); END;

CREATE TRIGGER bundle_update BEFORE UPDATE ON bundle
BEGIN SELECT RAISE(ABORT, 'a bundle version is never changed'); END;
CREATE TRIGGER bundle_delete BEFORE DELETE ON bundle
BEGIN SELECT RAISE(ABORT, 'a bundle version is never deleted'); END;
CREATE TRIGGER bundle_anchor_update BEFORE UPDATE ON bundle_anchor
BEGIN SELECT RAISE(ABORT, 'a bundle version is never changed'); END;
CREATE TRIGGER bundle_anchor_delete BEFORE DELETE ON bundle_anchor
BEGIN SELECT RAISE(ABORT, 'a bundle version is never deleted'); END;

CREATE TRIGGER operator_action_update BEFORE UPDATE ON operator_action
BEGIN SELECT RAISE(ABORT, 'an operator''s action is never changed'); END;
CREATE TRIGGER operator_action_delete BEFORE DELETE ON operator_action
BEGIN SELECT RAISE(ABORT, 'an operator''s action is never deleted'); END;

CREATE TRIGGER issuer_update BEFORE UPDATE ON issuer
WHEN NEW.id <> OLD.id OR NEW.key <> OLD.key OR NEW.public_key <> OLD.public_key
  OR NEW.authority <> OLD.authority OR NEW.role <> OLD.role
  OR (OLD.state = 'retired' AND NEW.state <> 'retired')
  OR (OLD.state = 'active' AND NEW.state = 'pending')
BEGIN SELECT RAISE(ABORT, 'an issuer only moves from pending to active to retired'); END;
CREATE TRIGGER issuer_delete BEFORE DELETE ON issuer
BEGIN SELECT RAISE(ABORT, 'an issuer is never deleted'); END;

CREATE TRIGGER ca_certificate_update BEFORE UPDATE ON ca_certificate
WHEN NEW.id <> OLD.id OR NEW.issuer <> OLD.issuer OR NEW.der <> OLD.der OR NEW.anchor <> OLD.anchor
  OR (OLD.state = 'retired' AND NEW.state <> 'retired')
  OR (OLD.state = 'active' AND NEW.state = 'pending')
BEGIN SELECT RAISE(ABORT, 'a CA certificate only moves from pending to active to retired'); END;
CREATE TRIGGER ca_certificate_delete BEFORE DELETE ON ca_certificate
BEGIN SELECT RAISE(ABORT, 'a CA certificate is never deleted'); END;

CREATE TRIGGER anchor_update BEFORE UPDATE ON anchor
WHEN NEW.id <> OLD.id OR NEW.authority <> OLD.authority OR NEW.der <> OLD.der
  OR NEW.origin <> OLD.origin OR OLD.state = 'retired'
  OR (OLD.state = 'active' AND NEW.state = 'pending')
BEGIN SELECT RAISE(ABORT, 'an anchor only moves from pending to active to retired'); END;
CREATE TRIGGER anchor_delete BEFORE DELETE ON anchor
BEGIN SELECT RAISE(ABORT, 'an anchor is never deleted'); END;
