-- Which version of a trust bundle stands everywhere in a cluster's target: what a rotation waits
-- for before it takes the next step. The newest only; the bundles themselves keep the history.

CREATE TABLE bundle_delivery (
    cluster      TEXT NOT NULL,
    target       TEXT NOT NULL,
    bundle       INTEGER NOT NULL REFERENCES bundle,
    objects      INTEGER NOT NULL,        -- how many held it when it first stood everywhere
    delivered_at INTEGER NOT NULL,
    delivered_by TEXT NOT NULL,           -- the instance
    PRIMARY KEY (cluster, target)
) STRICT;
