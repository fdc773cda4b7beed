//! What Rootbridge writes to Kubernetes clusters. How they are reached is the business of
//! `cluster`.

pub mod publisher;
