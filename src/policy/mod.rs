//! What may be certified: profiles, rules and the pure decision over them.
