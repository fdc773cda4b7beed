-- What each server and each watcher has of the trust bundles, and which clusters are gone: what a
-- rotation waits for with several servers. The newest only.

CREATE TABLE server_report (
    instance    text COLLATE "C" NOT NULL REFERENCES instance,
    authority   bigint NOT NULL REFERENCES authority,
    boot        bigint NOT NULL,         -- of the epoch that says it
    sequence    bigint NOT NULL,         -- of the bundle that it publishes
    digest      bytea NOT NULL,
    issuer      text COLLATE "C",                     -- what it signs under
    details     text COLLATE "C" NOT NULL,            -- targets and proxies of its clusters
    reported_at bigint NOT NULL,
    PRIMARY KEY (instance, authority)
);

CREATE TABLE bundle_watcher (
    authority   bigint NOT NULL REFERENCES authority,
    cluster     text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,         -- of the bundle that it has applied
    digest      bytea NOT NULL,
    details     text COLLATE "C" NOT NULL,
    reported_at bigint NOT NULL,
    instance    text COLLATE "C" NOT NULL,            -- the server that it told
    PRIMARY KEY (authority, cluster, name)
);

CREATE TABLE gone_cluster (
    cluster     text COLLATE "C" PRIMARY KEY,
    reason      text COLLATE "C" NOT NULL,            -- the operator's
    declared_at bigint NOT NULL,
    declared_by text COLLATE "C" NOT NULL,
    returned_at bigint                   -- when it was heard of again
);
