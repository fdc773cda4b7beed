//! A system-call trace of the server: what was made durable when, what the HSM was asked, when an
//! answer left. `strace -f -yy -xx`: file descriptors with their paths, all bytes in hex.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// One line of the trace, by its place in it.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// Bytes, in hex, were handed to the kernel for the file or socket of this name.
    Write {
        to: String,
        hex: String,
        size: usize,
    },
    /// An fsync or fdatasync of this file returned, with this result.
    Synced { file: String, result: i64 },
    /// C_Sign was entered for this digest, lower hex.
    Sign { digest: String },
}

/// strace in front of a command. `-D`: the command stays the direct child, and a kill reaches it.
pub(crate) fn strace(log: &Path, command: &Command) -> Command {
    let mut traced = Command::new("strace");
    traced
        .args(["-D", "-f", "-yy", "-xx", "-s", "65536", "-o"])
        .arg(log)
        .args([
            "-e",
            "trace=fdatasync,fsync,write,writev,pwrite64,sendto,sendmsg",
            "-e",
            "signal=none",
        ])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// Reads a trace. The spy writes to standard error one line of its log in each call, so that a
/// C_Sign and its data are known by the thread that wrote them.
pub(crate) fn parse(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    // Thread → the call that another thread's line cut in two.
    let mut open: BTreeMap<&str, &str> = BTreeMap::new();
    // Thread → the place of its C_Sign, until the digest is whole.
    let mut signing: BTreeMap<String, usize> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else {
            continue;
        };
        let call = call.trim_start();
        if let Some(started) = call.strip_suffix(" <unfinished ...>") {
            open.insert(thread, started);
            // What is written counts from the moment it was handed over.
            if !started.starts_with('f') {
                push(&mut events, &mut signing, thread, started);
            }
        } else if call.starts_with("<... ") {
            let started = open.remove(thread).unwrap_or_default();
            if started.starts_with('f') {
                let whole = format!(
                    "{started}{}",
                    call.split_once("resumed>").map_or("", |(_, rest)| rest)
                );
                push(&mut events, &mut signing, thread, &whole);
            }
        } else {
            push(&mut events, &mut signing, thread, call);
        }
    }
    events
}

fn push(events: &mut Vec<Event>, signing: &mut BTreeMap<String, usize>, thread: &str, call: &str) {
    let Some((name, rest)) = call.split_once('(') else {
        return;
    };
    // 7<TCP:[127.0.0.1:1->127.0.0.1:2]>: the name may hold a `>`, never `>,` or `>)`.
    let target = rest.split_once('<').map_or("", |(_, rest)| rest);
    let end = [">,", ">)"]
        .iter()
        .filter_map(|mark| target.find(mark))
        .min()
        .unwrap_or(0);
    let target = unescape(&target[..end]);
    let target = target.as_str();
    if name == "fsync" || name == "fdatasync" {
        let result = call
            .rsplit_once("= ")
            .and_then(|(_, result)| result.split(' ').next());
        let result = result.and_then(|result| result.parse().ok()).unwrap_or(-1);
        events.push(Event::Synced {
            file: target.to_owned(),
            result,
        });
        return;
    }
    let quoted = rest.split('"').skip(1).step_by(2);
    let hex: String = quoted
        .map(|text| text.replace("\\x", "").to_lowercase())
        .collect();
    if target.starts_with("/") && rest.starts_with("2<") {
        spied(events, signing, thread, &hex);
    } else {
        events.push(Event::Write {
            to: target.to_owned(),
            size: hex.len() / 2,
            hex,
        });
    }
}

/// A line of the spy's log: the head of a call, or sixteen bytes of its data.
fn spied(events: &mut Vec<Event>, signing: &mut BTreeMap<String, usize>, thread: &str, hex: &str) {
    let text = decode(hex);
    if text.trim_end().ends_with(": C_Sign") {
        signing.insert(thread.to_owned(), events.len());
        events.push(Event::Sign {
            digest: String::new(),
        });
    } else if text.starts_with("[out]") || text.starts_with("Returned") {
        signing.remove(thread);
    } else if let Some(Event::Sign { digest }) =
        signing.get(thread).and_then(|at| events.get_mut(*at))
    {
        // "\n    00000000  6E 53 A2 …  nS.6": the bytes stand between two double blanks.
        let bytes = text.trim_start().split("  ").nth(1).unwrap_or_default();
        if text.starts_with("\n    ") {
            digest.push_str(&bytes.to_lowercase().replace(' ', ""));
        }
    }
}

/// Names of files come in hex too.
fn unescape(name: &str) -> String {
    if name.starts_with("\\x") {
        decode(&name.replace("\\x", ""))
    } else {
        name.to_owned()
    }
}

fn decode(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).ok();
    (0..hex.len())
        .step_by(2)
        .filter_map(byte)
        .map(char::from)
        .collect()
}

#[test]
fn a_trace_is_read() {
    let escape = |text: &str| {
        text.bytes()
            .map(|b| format!("\\x{b:02x}"))
            .collect::<String>()
    };
    let (sign, data) = (
        escape("\n14: C_Sign\n"),
        escape("\n    00000000  6E 53 A2  nS."),
    );
    let wal_hex = escape("/tmp/a/ledger.db-wal");
    let trace = format!(
        r#"11 pwrite64(9<{wal_hex}>, "\x01\xAB"..., 4096, 32) = 4096
11 fdatasync(9</tmp/a/ledger.db-wal> <unfinished ...>
12 write(2</tmp/a/serve.log>, "{sign}", 12) = 12
12 write(2</tmp/a/serve.log>, "{data}", 27) = 27
11 <... fdatasync resumed>) = 0
13 sendto(7<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\x17\x03", 2, MSG_NOSIGNAL, NULL, 0) = 2
11 fdatasync(9</tmp/a/ledger.db-wal>) = -1 EIO (Input/output error)"#
    );
    let wal = "/tmp/a/ledger.db-wal".to_owned();
    let expected = [
        Event::Write {
            to: wal.clone(),
            hex: "01ab".to_owned(),
            size: 2,
        },
        Event::Sign {
            digest: "6e53a2".to_owned(),
        },
        Event::Synced {
            file: wal.clone(),
            result: 0,
        },
        Event::Write {
            to: "TCP:[127.0.0.1:1->127.0.0.1:2]".to_owned(),
            hex: "1703".to_owned(),
            size: 2,
        },
        Event::Synced {
            file: wal,
            result: -1,
        },
    ];
    assert_eq!(parse(&trace), expected);
}
