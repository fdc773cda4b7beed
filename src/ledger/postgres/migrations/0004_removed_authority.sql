-- Authorities that an operator has removed. They have never issued; the row stays, so that what was
-- recorded below it keeps its place, and a new authority of the trust domain goes on above its bundles.

ALTER TABLE authority ADD COLUMN removed_at bigint;
ALTER TABLE authority ADD COLUMN removed_by text COLLATE "C";
