//! How often what is repeated is repeated.

/// `short` in `make test`, `full` in `make campaign`.
pub fn rounds(short: usize, full: usize) -> usize {
    match std::env::var_os("ROOTBRIDGE_CAMPAIGN") {
        Some(_) => full,
        None => short,
    }
}
