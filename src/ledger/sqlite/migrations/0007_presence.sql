-- What each server and each watcher has of the trust bundles, and which clusters are gone: what a
-- rotation waits for with several servers. The newest only.

CREATE TABLE server_report (
    instance    TEXT NOT NULL REFERENCES instance,
    authority   INTEGER NOT NULL REFERENCES authority,
    boot        INTEGER NOT NULL,         -- of the epoch that says it
    sequence    INTEGER NOT NULL,         -- of the bundle that it publishes
    digest      BLOB NOT NULL,
    issuer      TEXT,                     -- what it signs under
    details     TEXT NOT NULL,            -- targets and proxies of its clusters
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (instance, authority)
) STRICT;

CREATE TABLE bundle_watcher (
    authority   INTEGER NOT NULL REFERENCES authority,
    cluster     TEXT NOT NULL,
    name        TEXT NOT NULL,
    sequence    INTEGER NOT NULL,         -- of the bundle that it has applied
    digest      BLOB NOT NULL,
    details     TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    instance    TEXT NOT NULL,            -- the server that it told
    PRIMARY KEY (authority, cluster, name)
) STRICT;

CREATE TABLE gone_cluster (
    cluster     TEXT PRIMARY KEY,
    reason      TEXT NOT NULL,            -- the operator's
    declared_at INTEGER NOT NULL,
    declared_by TEXT NOT NULL,
    returned_at INTEGER                   -- when it was heard of again
) STRICT;
