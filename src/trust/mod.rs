//! The trust bundle's life: what is published for a trust domain, and who is told of a change.
