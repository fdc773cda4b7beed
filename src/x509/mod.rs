//! Pure X.509: names, keys, requests, certificates and bundles, with no I/O.
