-- What the servers' role may do in a ledger that another role owns. Run it as the owner, after the schema
-- was made and after each upgrade of it:
--
--     psql -v ON_ERROR_STOP=1 -v server=rootbridge -d rootbridge -f grants.sql
--
-- The servers add rows everywhere, and change only what has a state. What was recorded of certificates they
-- cannot change or remove, whatever the program does: an outcome alone goes from failed to unknown and from
-- either to issued, which a trigger checks that this role cannot remove.

GRANT USAGE ON SCHEMA public TO :"server";
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO :"server";
REVOKE INSERT ON rootbridge_schema, revision, settled FROM :"server";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"server";

GRANT UPDATE (value) ON revision TO :"server";
GRANT UPDATE (below) ON settled TO :"server";
GRANT UPDATE (boot, lease, lease_until) ON instance TO :"server";
GRANT UPDATE (removed_at, removed_by) ON authority TO :"server";
GRANT UPDATE (state) ON issuer, ca_certificate TO :"server";
GRANT UPDATE (state, retired_at) ON anchor TO :"server";
GRANT UPDATE (token_serial, key_id, label) ON issuer_location TO :"server";
GRANT UPDATE (state, signature, reason, concluded_at) ON conclusion TO :"server";
GRANT UPDATE (bundle, objects, delivered_at, delivered_by) ON bundle_delivery TO :"server";
GRANT UPDATE (sequence) ON bundle_lowest_sequence TO :"server";
GRANT UPDATE (issuer, key_id, state, csr, reference, problem, attempts, attempt_by, next_attempt_at,
    changed_at, ended_at) ON ca_request TO :"server";
GRANT UPDATE (phase, backwards, new_issuer, new_anchor, changed_at, ended_at) ON rotation TO :"server";
GRANT UPDATE (issuer, dropped_at) ON planned_key TO :"server";
GRANT UPDATE (holder, boot, since, fence) ON work_lease TO :"server";
-- Paths and answers are replaced.
GRANT DELETE ON ca_path, ca_answer TO :"server";
