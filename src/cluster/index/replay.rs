//! Applies the lines of a watch to an empty table of pods, as a follower does: for fuzzing.

use std::sync::Arc;

use kube::core::WatchEvent;

use super::objects::PodObject;
use super::records::PodRecord;
use super::tables::{Pods, Table as _};
use crate::cluster::api::{ApiError, parse_event};

/// The pods that remain, each with those of its node. A line without an end of the watch is ended by it.
///
/// # Errors
/// Of the first line that no follower goes on after.
pub fn replay(lines: &[u8]) -> Result<Vec<(Arc<PodRecord>, Vec<Arc<PodRecord>>)>, ApiError> {
    let mut pods = Pods::default();
    for line in lines.split(|byte| *byte == b'\n') {
        match parse_event::<PodObject>(line)? {
            None => break,
            Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => pods.insert(pod),
            Some(WatchEvent::Deleted(pod)) => pods.remove(&pod),
            Some(WatchEvent::Bookmark(_)) => {}
            Some(WatchEvent::Error(status)) => return Err(ApiError::Status(status)),
        }
        // Forgotten objects leave nothing behind.
        debug_assert_eq!(pods.all().count(), pods.len());
        debug_assert_eq!(pods.weight() == 0, pods.len() == 0);
    }
    let of_node = |pod: &PodRecord| {
        pod.node()
            .map_or(&[][..], |node| pods.on_node(node))
            .to_vec()
    };
    Ok(pods
        .all()
        .map(|pod| (Arc::clone(pod), of_node(pod)))
        .collect())
}
