//! One pod, and one service account, in memory.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::objects::Meta;
use crate::clock::UnixTime;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Uid {
    /// In the form that Kubernetes generates.
    Uuid([u8; 16]),
    Other(Box<str>),
}

#[derive(Debug)]
pub struct PodRecord {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) uid: Uid,
    pub(super) account: Arc<str>,
    pub(super) node: Option<Arc<str>>,
    pub(super) trust_root: Option<Arc<str>>,
    pub(super) in_linkerd: bool,
    pub(super) deletion: Option<UnixTime>,
    pub(super) ended: bool,
}

#[derive(Clone, Debug)]
pub struct AccountRecord {
    pub(super) uid: Uid,
    pub(super) deletion: Option<UnixTime>,
}

impl PodRecord {
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// False for another pod of the same name.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid == Uid::of(uid)
    }

    pub fn uid(&self) -> String {
        self.uid.to_string()
    }

    /// Its service account's name.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `None` until it is scheduled.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Whether its phase is Failed or Succeeded.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Its deletionTimestamp.
    pub fn deletion(&self) -> Option<UnixTime> {
        self.deletion
    }

    /// Its annotation `linkerd.io/trust-root-sha256`.
    pub fn trust_root(&self) -> Option<&str> {
        self.trust_root.as_deref()
    }

    /// Whether Linkerd's injector gave it a proxy, by its label. Pods of the control plane itself
    /// are not injected.
    pub fn is_injected_by_linkerd(&self) -> bool {
        self.in_linkerd
    }
}

impl AccountRecord {
    /// False for another account of the same name.
    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid == Uid::of(uid)
    }

    /// Its deletionTimestamp.
    pub fn deletion(&self) -> Option<UnixTime> {
        self.deletion
    }
}

impl Uid {
    pub(super) fn of(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Other(text.into()), Self::Uuid)
    }

    /// The bytes that it takes elsewhere.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Uuid(_) => 0,
            Self::Other(text) => text.len(),
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(text) => f.write_str(text),
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) {
                        "-"
                    } else {
                        ""
                    };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes of a UUID in canonical form (RFC 9562 §4) in lower case: two texts that differ are never
/// one UID.
fn uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    for (at, each) in text.bytes().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if each != b'-' {
                return None;
            }
            continue;
        }
        let digit = match each {
            b'0'..=b'9' => each - b'0',
            b'a'..=b'f' => each - b'a' + 10,
            _ => return None,
        };
        let byte = bytes.get_mut(filled / 2)?;
        *byte = *byte << 4 | digit;
        filled += 1;
    }
    Some(bytes)
}

pub(super) fn deletion(meta: &Meta) -> Option<UnixTime> {
    let Time(at) = meta.deletion_timestamp.as_ref()?;
    Some(UnixTime::from_secs(at.as_second()))
}
