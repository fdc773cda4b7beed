//! News of issued certificates on its channel to the clusters whose workloads have them: told without
//! waiting, and dropped where nobody takes it soon enough. Who issues never waits for who is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::clock::UnixTime;

/// A certificate that was issued to a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The account's namespace.
    pub namespace: String,
    /// The account's name.
    pub account: String,
    /// The account's UID, where it is known.
    pub uid: Option<String>,
    /// The certified name.
    pub name: String,
    /// The last second of the certificate's validity.
    pub not_after: UnixTime,
    /// SHA-256 of the certificate in DER.
    pub sha256: [u8; 32],
}

/// Where notices are told, for some clusters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<BTreeMap<String, Channel>>);

#[derive(Debug)]
struct Channel {
    sender: mpsc::Sender<Notice>,
    dropped: Counter,
}

impl Notices {
    /// A channel to each of the clusters, by name, on which `most` notices may wait; what finds no place
    /// is counted. Beside it each channel's receiver.
    pub fn new(
        clusters: impl IntoIterator<Item = (String, Counter)>,
        most: usize,
    ) -> (Self, BTreeMap<String, mpsc::Receiver<Notice>>) {
        let (mut channels, mut receivers) = (BTreeMap::new(), BTreeMap::new());
        for (cluster, dropped) in clusters {
            let (sender, receiver) = mpsc::channel(most.max(1));
            receivers.insert(cluster.clone(), receiver);
            channels.insert(cluster, Channel { sender, dropped });
        }
        (Self(Arc::new(channels)), receivers)
    }

    /// Tells a cluster, if it is to be told at all. Never waits.
    pub fn send(&self, cluster: &str, notice: Notice) {
        if let Some(channel) = self.0.get(cluster)
            && channel.sender.try_send(notice).is_err()
        {
            channel.dropped.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_finds_no_place_is_dropped_and_counted() {
        let dropped = Counter::default();
        let channels = [("east".to_owned(), dropped.clone())];
        let (notices, mut receivers) = Notices::new(channels, 2);
        let notice = |name: &str| Notice {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            uid: None,
            name: name.to_owned(),
            not_after: UnixTime::from_secs(0),
            sha256: [0; 32],
        };
        for name in ["a", "b", "c"] {
            notices.send("east", notice(name));
        }
        notices.send("west", notice("d"));
        assert_eq!(dropped.get(), 1);
        let receiver = receivers.get_mut("east").unwrap();
        assert_eq!(receiver.try_recv().unwrap().name, "a");
        notices.send("east", notice("e"));
        assert_eq!(receiver.try_recv().unwrap().name, "b");
        assert_eq!(receiver.try_recv().unwrap().name, "e");
        // Nobody is there any more.
        drop(receivers);
        notices.send("east", notice("f"));
        assert_eq!(dropped.get(), 2);
    }
}
