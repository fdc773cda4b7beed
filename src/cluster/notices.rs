//! Notices of issued certificates for the clusters of their workloads. Sending never waits: a notice
//! that finds its channel full is dropped and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::clock::UnixTime;

/// A certificate that was issued to a service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub namespace: String,
    pub account: String,
    /// Of the account.
    pub uid: Option<String>,
    /// The certified name.
    pub name: String,
    /// The last second of the certificate's validity.
    pub not_after: UnixTime,
    /// SHA-256 of the certificate in DER.
    pub sha256: [u8; 32],
}

/// A bounded channel to each cluster's event writer. Clones share the channels.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<BTreeMap<String, Channel>>);

#[derive(Debug)]
struct Channel {
    sender: mpsc::Sender<Notice>,
    dropped: Counter,
}

impl Notices {
    /// A channel of `most` notices to each cluster, by name, with a counter of dropped notices; also
    /// returns the receivers.
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

    /// Queues a notice, if the cluster has a channel. Never waits.
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
    fn a_notice_for_a_full_channel_is_dropped_and_counted() {
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
        // The receivers are gone.
        drop(receivers);
        notices.send("east", notice("f"));
        assert_eq!(dropped.get(), 2);
    }
}
