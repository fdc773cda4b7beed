//! The straight line from a grant to an issued certificate; the only door to a key of the HSM.
