//! Other programs that serve on a port of their choice.

use std::fs;

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
