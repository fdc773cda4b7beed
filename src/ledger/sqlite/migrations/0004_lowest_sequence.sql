-- The sequences that bundles had before an older ledger was put in the place of a newer one: versions
-- made afterwards are above them, so that no client sees two bundles with one sequence. By name, since
-- the authority may be among what was lost.

CREATE TABLE bundle_lowest_sequence (
    trust_domain TEXT PRIMARY KEY,
    sequence     INTEGER NOT NULL
) STRICT;

CREATE TRIGGER bundle_lowest_sequence_update BEFORE UPDATE ON bundle_lowest_sequence
WHEN NEW.trust_domain <> OLD.trust_domain OR NEW.sequence < OLD.sequence
BEGIN SELECT RAISE(ABORT, 'the sequence of a bundle never goes down'); END;
CREATE TRIGGER bundle_lowest_sequence_delete BEFORE DELETE ON bundle_lowest_sequence
BEGIN SELECT RAISE(ABORT, 'the sequence of a bundle never goes down'); END;
