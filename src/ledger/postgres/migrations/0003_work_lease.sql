-- Work that one server at a time may do: who does it, and a number that grows each time that it changes
-- hands. What a holder writes is refused, in the same transaction, once the number is another.

CREATE TABLE work_lease (
    work   text COLLATE "C" PRIMARY KEY,
    holder text COLLATE "C" REFERENCES instance,   -- NULL: given up
    boot   bigint NOT NULL,                        -- the holder's epoch
    fence  bigint NOT NULL CHECK (fence > 0),
    since  bigint NOT NULL
);

CREATE TRIGGER work_lease_update BEFORE UPDATE ON work_lease FOR EACH ROW
    WHEN (NEW.work <> OLD.work OR NEW.fence < OLD.fence OR (NEW.fence = OLD.fence AND NEW.holder IS NOT NULL))
    EXECUTE FUNCTION rootbridge_refuse('a lease on work changes hands only with a greater number');
CREATE TRIGGER work_lease_delete BEFORE DELETE ON work_lease FOR EACH ROW
    EXECUTE FUNCTION rootbridge_refuse('a lease on work is never deleted');
CREATE TRIGGER work_lease_truncate BEFORE TRUNCATE ON work_lease FOR EACH STATEMENT
    EXECUTE FUNCTION rootbridge_refuse('what is on record is never removed');
