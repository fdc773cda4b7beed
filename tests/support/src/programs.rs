//! Other programs that serve on a port of their choice.

use std::fs;

use crate::process::Process;
use crate::{PATIENCE, eventually};

/// The TCP ports that a process listens on, from /proc.
pub fn listening(process: i32) -> Vec<u16> {
    let entries = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.display().to_string()).collect();
    let table = |name: &str| fs::read_to_string(format!("/proc/{process}/net/{name}")).unwrap();
    let tables = table("tcp") + &table("tcp6");
    let rows = tables
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = rows.filter(|row| {
        row.get(3) == Some(&"0A") && sockets.contains(&format!("socket:[{}]", row[9]))
    });
    own.map(|row| u16::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap())
        .collect()
}

/// The address at which a process answers, once it does.
pub async fn answering(
    process: &Process,
    scheme: &str,
    answers: impl AsyncFn(&str) -> bool,
) -> String {
    let mut found = None;
    eventually(PATIENCE, "the program answers", async || {
        for port in listening(process.id().as_raw()) {
            let url = format!("{scheme}://127.0.0.1:{port}");
            if answers(&url).await {
                found = Some(url);
            }
        }
        found.is_some()
    })
    .await;
    found.unwrap()
}
