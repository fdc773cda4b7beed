//! Wiring, in order.
