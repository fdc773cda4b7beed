//! The versions of the schema.

/// A version of the schema.
pub(super) struct Migration {
    pub(super) version: u64,
    /// The oldest version of the program, by the newest schema that it knows, that works beside it.
    pub(super) oldest_program: u64,
    pub(super) sql: &'static str,
}

pub(super) static MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        oldest_program: 1,
        sql: include_str!("migrations/0001_ledger.sql"),
    },
    Migration {
        version: 2,
        oldest_program: 1,
        sql: include_str!("migrations/0002_presence.sql"),
    },
    Migration {
        version: 3,
        oldest_program: 1,
        sql: include_str!("migrations/0003_work_lease.sql"),
    },
    Migration {
        version: 4,
        oldest_program: 1,
        sql: include_str!("migrations/0004_removed_authority.sql"),
    },
    Migration {
        version: 5,
        oldest_program: 1,
        sql: include_str!("migrations/0005_notify.sql"),
    },
];

/// The newest schema version that this binary supports.
pub(super) fn newest_version() -> u64 {
    MIGRATIONS
        .iter()
        .map(|each| each.version)
        .max()
        .unwrap_or(0)
}
