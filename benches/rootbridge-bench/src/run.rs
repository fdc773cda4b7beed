//! One run of a server under load, and interleaved windows of two servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

use crate::connection::Target;
use crate::load::{self, Queue, Window};
use crate::requests::Request;
use crate::server::{Authority, Server};
use crate::{Args, answers, note};

/// From a server's start to its first certificate.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Before the memory of an idle server is read.
const IDLE: Duration = Duration::from_secs(1);

pub(crate) struct Run {
    pub(crate) window: Window,
    pub(crate) first_certificate: Duration,
    pub(crate) rss_idle_mib: f64,
    pub(crate) rss_load_mib: f64,
}

pub(crate) async fn once(
    args: &Args,
    authority: &Authority<'_>,
    requests: &Arc<Vec<Request>>,
) -> Result<Run> {
    let server = ReadyServer::start(authority, requests).await?;
    sleep(IDLE).await;
    let (rss_idle_mib, _) = server.server.memory_mib()?;
    let window = server
        .measure(args, &Queue::new(requests, args.renew))
        .await?;
    let (_, rss_load_mib) = server.server.memory_mib()?;
    server.server.stop().await?;
    Ok(Run {
        window,
        first_certificate: server.first_certificate,
        rss_idle_mib,
        rss_load_mib,
    })
}

/// Each server has load while the other one is idle, in turn, so that other work on the machine
/// affects both.
pub(crate) async fn pairs(
    args: &Args,
    authorities: &[Authority<'_>],
    requests: &Arc<Vec<Request>>,
) -> Result<Vec<(Window, Window)>> {
    let [first, second] = authorities else {
        bail!("a comparison needs two servers");
    };
    let first = ReadyServer::start(first, requests).await?;
    let second = ReadyServer::start(second, requests).await?;
    let queue = Queue::new(requests, args.renew);
    let mut pairs = Vec::new();
    for number in 1..=args.pairs {
        // The order alternates, so that a machine that becomes busier favours neither.
        let pair = if number % 2 == 0 {
            let window = second.measure(args, &queue).await?;
            (first.measure(args, &queue).await?, window)
        } else {
            let window = first.measure(args, &queue).await?;
            (window, second.measure(args, &queue).await?)
        };
        note(&format!(
            "pair {number} of {}: {:.0} and {:.0} CSR/s",
            args.pairs,
            pair.0.per_second(),
            pair.1.per_second()
        ));
        pairs.push(pair);
    }
    first.server.stop().await?;
    second.server.stop().await?;
    Ok(pairs)
}

/// A server that has issued its first certificate.
struct ReadyServer<'a> {
    server: Server,
    authority: &'a Authority<'a>,
    target: Target,
    /// From the start of the process until the caller has the certificate.
    first_certificate: Duration,
}

impl<'a> ReadyServer<'a> {
    async fn start(authority: &'a Authority<'a>, requests: &[Request]) -> Result<Self> {
        let request = requests.last().context("there are no requests")?;
        let mut server = Server::start(authority)?;
        let target = Target::new(server.address().await?, &authority.root)?;
        let listening = Instant::now();
        loop {
            let answer = async { target.connect().await?.call(request, false).await };
            match answer.await {
                Ok(_) => break,
                Err(error) if listening.elapsed() > START_TIMEOUT => {
                    return Err(error.context("no first certificate"));
                }
                // Its own certificate or its token is not ready yet.
                Err(_) => sleep(Duration::from_millis(2)).await,
            }
        }
        Ok(Self {
            first_certificate: server.started.elapsed(),
            server,
            authority,
            target,
        })
    }

    async fn measure(&self, args: &Args, queue: &Arc<Queue>) -> Result<Window> {
        let connections = usize::try_from(args.connections)?;
        let span = Duration::from_secs(args.seconds);
        let mut window =
            load::measure(&self.server, &self.target, queue, connections, span).await?;
        for (number, answer) in std::mem::take(&mut window.calls.samples) {
            window.checked += 1;
            let request = queue.request(number).context("an answer to no request")?;
            if let Err(error) = answers::check(request, &answer, &self.authority.root) {
                window.calls.add_error(&error);
            }
        }
        Ok(window)
    }
}
