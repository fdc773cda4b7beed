//! One plain HTTP request on a blocking socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

/// GET on the loopback interface; an error without an answer.
pub(crate) fn get(port: u16, path: &str) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = headers
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    Ok(Response {
        status,
        headers: headers.to_lowercase(),
        body: body.to_owned(),
    })
}

/// Waits until `path` answers 200. `Err` holds the last answer, or `gone`'s reason to give up.
pub(crate) fn wait_ready(
    port: u16,
    path: &str,
    limit: Duration,
    mut gone: impl FnMut() -> Option<String>,
) -> Result<Duration, String> {
    let started = Instant::now();
    loop {
        let last = get(port, path);
        if last.as_ref().is_ok_and(|response| response.status == 200) {
            return Ok(started.elapsed());
        }
        if let Some(reason) = gone() {
            return Err(reason);
        }
        if started.elapsed() > limit {
            return Err(format!("{path} on port {port} after {limit:?}: {last:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
