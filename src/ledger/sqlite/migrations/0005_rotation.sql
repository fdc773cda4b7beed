-- Rotations: the change of a root or an issuing CA, with each of its moves.

CREATE TABLE rotation (
    id         INTEGER PRIMARY KEY,
    authority  INTEGER NOT NULL REFERENCES authority,
    kind       TEXT NOT NULL CHECK (kind IN
        ('new-root', 'key-algorithm', 'new-issuer', 'upstream-root', 'root-leaves')),
    phase      TEXT NOT NULL CHECK (phase IN
        ('prepare', 'publish', 'converge', 'activate', 'drain', 'retire', 'done', 'withdrawn')),
    backwards  INTEGER NOT NULL DEFAULT 0,
    old_issuer INTEGER REFERENCES issuer,
    old_anchor BLOB,                      -- sha256
    new_issuer INTEGER REFERENCES issuer,
    new_anchor BLOB,
    key_kind   TEXT NOT NULL,
    token      TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    started_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    ended_at   INTEGER,
    CHECK ((phase IN ('done', 'withdrawn')) = (ended_at IS NOT NULL)),
    CHECK (phase IN ('prepare', 'withdrawn') OR kind = 'root-leaves'
        OR (new_issuer IS NOT NULL AND new_anchor IS NOT NULL))
) STRICT;
-- One rotation at a time for an authority, whichever server moves it.
CREATE UNIQUE INDEX rotation_open ON rotation (authority) WHERE ended_at IS NULL;

CREATE TABLE rotation_step (
    id        INTEGER PRIMARY KEY,
    rotation  INTEGER NOT NULL REFERENCES rotation,
    phase     TEXT NOT NULL,
    backwards INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    by        TEXT NOT NULL,
    forced    TEXT                        -- the operator's reason
) STRICT;
CREATE INDEX rotation_steps ON rotation_step (rotation);

CREATE TRIGGER rotation_update BEFORE UPDATE ON rotation
WHEN OLD.ended_at IS NOT NULL OR NEW.id <> OLD.id OR NEW.authority <> OLD.authority
  OR NEW.kind <> OLD.kind OR NEW.started_at <> OLD.started_at OR NEW.backwards < OLD.backwards
  OR NEW.old_issuer IS NOT OLD.old_issuer OR NEW.old_anchor IS NOT OLD.old_anchor
  OR (OLD.phase <> 'prepare' AND (NEW.new_issuer IS NOT OLD.new_issuer OR NEW.new_anchor IS NOT OLD.new_anchor))
BEGIN SELECT RAISE(ABORT, 'a rotation keeps its issuers and roots, and never changes once it has ended'); END;
CREATE TRIGGER rotation_delete BEFORE DELETE ON rotation
BEGIN SELECT RAISE(ABORT, 'a rotation is never deleted'); END;
CREATE TRIGGER rotation_step_update BEFORE UPDATE ON rotation_step
BEGIN SELECT RAISE(ABORT, 'a step of a rotation is never changed'); END;
CREATE TRIGGER rotation_step_delete BEFORE DELETE ON rotation_step
BEGIN SELECT RAISE(ABORT, 'a step of a rotation is never deleted'); END;
