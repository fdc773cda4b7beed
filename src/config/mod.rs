//! From file and environment to validated component configurations.
