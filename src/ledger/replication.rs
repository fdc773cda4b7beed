//! Who confirms a commit besides the database that made it.

/// What a database waits for before it confirms a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// `synchronous_standby_names`.
    pub names: String,
    /// `synchronous_commit`.
    pub commit: String,
    /// Those that are connected.
    pub standbys: Vec<Standby>,
}

/// A standby that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// Its `application_name`.
    pub name: String,
    /// Whether commits wait for it; `None` if this role may not know.
    pub confirms: Option<bool>,
}

/// How far a commit is from being lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assurance {
    /// Nothing that was confirmed is lost.
    Kept,
    /// A failover may lose it, or this role may not know.
    AtRisk,
    /// Nothing is committed at present.
    Stopped,
}

impl Replication {
    /// How sure a confirmed commit is, who confirms it, and what to do about it.
    pub fn assurance(&self) -> (Assurance, String, Option<&'static str>) {
        let all = self.list(|_| true);
        let confirming = self.list(|standby| standby.confirms == Some(true));
        let others = self.list(|standby| standby.confirms == Some(false));
        if self.standbys.iter().any(|each| each.confirms.is_none()) {
            let detail = format!(
                "the database has {} standbys, and this role may not see which of them confirm a commit \
                 (synchronous_standby_names = '{}')",
                self.standbys.len(),
                self.names
            );
            return (Assurance::AtRisk, detail, Some(GRANT));
        }
        if self.names.is_empty() && all.is_empty() {
            let detail = "no standby is connected: a commit is on the primary's disk alone, and lost with it";
            return (Assurance::Kept, detail.to_owned(), None);
        }
        if self.names.is_empty() {
            let detail = format!(
                "no standby confirms a commit: a failover to {all} may lose the newest ones, and with them \
                 the only record of certificates that exist"
            );
            return (Assurance::AtRisk, detail, Some(SET_NAMES));
        }
        if self.commit == "local" {
            let detail = format!(
                "synchronous_commit = local: commits wait for no standby, whatever synchronous_standby_names \
                 ('{}') says, and a failover may lose the newest ones",
                self.names
            );
            return (Assurance::AtRisk, detail, Some(SET_COMMIT));
        }
        if confirming.is_empty() {
            let detail = format!(
                "commits wait for a standby that is not connected: synchronous_standby_names = '{}'",
                self.names
            );
            return (Assurance::Stopped, detail, Some(START_STANDBY));
        }
        let mut detail = format!(
            "a commit is confirmed by {confirming} (synchronous_standby_names = '{}')",
            self.names
        );
        if self.commit == "remote_write" {
            detail.push_str(
                ", which has it in memory only (synchronous_commit = remote_write): a failover after a loss of \
                 power may lose the newest commits",
            );
            return (Assurance::AtRisk, detail, Some(SET_COMMIT));
        }
        if others.is_empty() {
            detail.push_str(": a failover to it loses nothing");
        } else {
            detail.push_str(&format!(
                ": a failover to it loses nothing, one to {others} may lose the newest commits"
            ));
        }
        (Assurance::Kept, detail, None)
    }

    fn list(&self, wanted: impl Fn(&Standby) -> bool) -> String {
        let names = self.standbys.iter().filter(|each| wanted(each));
        let names: Vec<&str> = names.map(|each| each.name.as_str()).collect();
        names.join(", ")
    }
}

const GRANT: &str = "as a superuser: GRANT pg_read_all_stats TO the servers' role";
const SET_NAMES: &str = "set synchronous_standby_names on the database server, for example to 'ANY 1 (*)'; where \
    Patroni sets it, synchronous_mode";
const SET_COMMIT: &str = "set synchronous_commit to on";
const START_STANDBY: &str = "start the standby, or take it out of synchronous_standby_names";

#[cfg(test)]
mod tests {
    use super::*;

    fn standby(name: &str, confirms: impl Into<Option<bool>>) -> Standby {
        Standby {
            name: name.to_owned(),
            confirms: confirms.into(),
        }
    }

    #[test]
    fn says_what_a_failover_may_lose() {
        let (a, b) = (standby("a", true), standby("b", false));
        let late = standby("a", false);
        for (names, commit, standbys, assurance, part) in [
            (
                "",
                "on",
                vec![],
                Assurance::Kept,
                "on the primary's disk alone",
            ),
            (
                "",
                "on",
                vec![late.clone()],
                Assurance::AtRisk,
                "a failover to a may lose",
            ),
            (
                "a",
                "local",
                vec![a.clone()],
                Assurance::AtRisk,
                "commits wait for no standby",
            ),
            (
                "a",
                "on",
                vec![],
                Assurance::Stopped,
                "that is not connected",
            ),
            (
                "c",
                "on",
                vec![late],
                Assurance::Stopped,
                "that is not connected",
            ),
            (
                "a",
                "remote_write",
                vec![a.clone()],
                Assurance::AtRisk,
                "in memory only",
            ),
            (
                "a",
                "on",
                vec![a.clone()],
                Assurance::Kept,
                "a failover to it loses nothing",
            ),
            (
                "a",
                "remote_apply",
                vec![a.clone(), b],
                Assurance::Kept,
                "one to b may lose",
            ),
            (
                "a",
                "on",
                vec![a, standby("", None)],
                Assurance::AtRisk,
                "may not see",
            ),
        ] {
            let replication = Replication {
                names: names.to_owned(),
                commit: commit.to_owned(),
                standbys,
            };
            let (found, detail, hint) = replication.assurance();
            assert_eq!(found, assurance, "{replication:?}: {detail}");
            assert!(detail.contains(part), "{part}: {detail}");
            assert_eq!(hint.is_none(), assurance == Assurance::Kept, "{detail}");
        }
    }
}
