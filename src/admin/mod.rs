//! Operators' HTTP surface: health, readiness and metrics.
