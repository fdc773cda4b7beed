-- Work that one server at a time may do: who does it, and a number that grows each time that it changes
-- hands. What a holder writes is refused, in the same transaction, once the number is another.

CREATE TABLE work_lease (
    work   TEXT PRIMARY KEY,
    holder TEXT REFERENCES instance,   -- NULL: given up
    boot   INTEGER NOT NULL,           -- the holder's epoch
    fence  INTEGER NOT NULL CHECK (fence > 0),
    since  INTEGER NOT NULL
) STRICT;

CREATE TRIGGER work_lease_update BEFORE UPDATE ON work_lease
WHEN NEW.work <> OLD.work OR NEW.fence < OLD.fence OR (NEW.fence = OLD.fence AND NEW.holder IS NOT NULL)
BEGIN SELECT RAISE(ABORT, 'a lease on work changes hands only with a greater number'); END;
CREATE TRIGGER work_lease_delete BEFORE DELETE ON work_lease
BEGIN SELECT RAISE(ABORT, 'a lease on work is never deleted'); END;
