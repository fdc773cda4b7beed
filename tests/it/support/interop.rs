//! The driver of Istio's own client, which `make setup` builds from `tests/interop`.
