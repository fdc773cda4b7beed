//! The ledger's contract, and what only its SQLite store promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub
)]

mod support;

mod contract;
mod contract_anchor_sets;
mod contract_anchors;
mod contract_epochs;
mod contract_filters;
mod contract_foreign_anchors;
mod contract_high_water;
mod contract_planned_keys;
mod contract_presence;
mod contract_queries;
mod contract_records;
mod contract_removed_authorities;
mod contract_requests;
mod contract_rollouts;
mod contract_rotations;
mod contract_work_leases;

mod crash;
mod load;
mod pgbouncer;
mod postgres;
mod postgres_changes;
mod postgres_plans;
mod postgres_proxy;
mod postgres_refusals;
mod postgres_replication;
mod property;
mod sqlite;
mod sqlite_check;
mod sqlite_disk;

/// Runs each function of a contract module against a fresh store.
macro_rules! contract {
    ($factory:expr, $module:ident: $($name:ident),+ $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $name() {
                    let store = $factory;
                    crate::support::block_on(crate::$module::$name(&store));
                }
            )+
        }
    };
}

/// The whole contract for one store: a case that is added runs on every store.
macro_rules! whole_contract {
    ($factory:expr) => {
        contract!($factory, contract:
            records_and_concludes,
            reopens_what_failed,
            an_origin_is_recorded_once,
            only_an_active_issuer_signs,
            a_serial_is_used_once,
            an_outcome_is_final,
            one_failure_does_not_spread,
        );
        contract!($factory, contract_requests:
            one_request_is_in_flight,
            a_request_goes_from_state_to_state,
            an_attempt_is_made_once,
            records_are_those_of_their_authority,
            an_approved_root_is_published,
        );
        contract!($factory, contract_planned_keys:
            a_planned_key_is_recorded_once,
        );
        contract!($factory, contract_epochs:
            callers_who_leave_harm_nobody,
            epochs_and_leases,
            reconciles_only_what_is_abandoned,
            reconciling_reads_past_concluded_intents,
            closes,
        );
        contract!($factory, contract_records:
            an_authority_is_created,
            states_only_move_forward,
            several_certificates_and_key_locations,
            refused_changes_change_nothing,
            one_issuer_succeeds_another,
        );
        contract!($factory, contract_removed_authorities:
            what_has_never_issued_is_removed,
            what_has_issued_is_not_removed,
        );
        contract!($factory, contract_anchor_sets:
            anchors_are_added_as_a_set,
            a_bundle_has_a_limit,
        );
        contract!($factory, contract_anchors:
            foreign_anchors_are_added_and_removed,
            anchors_are_published_before_they_are_used,
            a_bundle_is_never_empty,
            bundle_versions_stay,
            an_active_issuer_keeps_a_usable_certificate,
            an_issuer_whose_anchor_is_gone_is_not_activated,
        );
        contract!($factory, contract_foreign_anchors:
            a_foreign_anchor_becomes_the_authoritys_own,
            a_leaf_is_no_anchor,
            several_changes_are_made_together_or_not_at_all,
        );
        contract!($factory, contract_rollouts:
            the_newest_rollout_of_each_target_is_stored,
            what_was_never_published_is_not_delivered,
        );
        contract!($factory, contract_presence:
            live_servers_report,
            watchers_are_remembered,
            a_cluster_is_gone_and_comes_back,
        );
        contract!($factory, contract_rotations:
            one_rotation_of_an_authority_is_open,
            who_holds_an_older_bundle_is_known,
            nothing_alive_is_retired,
        );
        contract!($factory, contract_work_leases:
            one_server_does_the_work,
            two_servers_reconcile_at_once,
        );
        contract!($factory, contract_high_water:
            knows_how_far_it_has_come,
            an_accepted_older_ledger_goes_on_above_the_lost_one,
        );
        contract!($factory, contract_filters:
            finds_by_subject,
            finds_by_everything_else,
        );
        contract!($factory, contract_queries:
            shows_all_that_was_recorded,
            pages_through_thousands,
            checks_itself,
        );
    };
}

mod on_sqlite {
    whole_contract!(crate::sqlite::SqliteStore::new());
}

mod on_postgres {
    whole_contract!(crate::postgres::PostgresStore::new());
}
