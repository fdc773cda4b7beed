//! One run of a server under load, and pairs of them.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::BenchArgs;
use super::checks;
use super::connection::Target;
use super::load::{self, Window};
use super::place::{Place, Site, failed};
use super::requests::Request;
use super::server::Server;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::x509::parse_pem_chain;

/// How long a server may take to its first certificate before that is an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until the memory of an idle server is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// What one run came to.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) window: Window,
    pub(super) checked: usize,
    pub(super) first_certificate: Duration,
    pub(super) rss_idle_mib: f64,
    pub(super) rss_load_mib: f64,
}

impl Run {
    pub(super) fn certificates(&self) -> u32 {
        u32::try_from(self.window.outcome.latencies.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn per_second(&self) -> f64 {
        f64::from(self.certificates()) / self.window.took.as_secs_f64()
    }

    pub(super) fn server_cpu_us(&self) -> f64 {
        micros(self.window.server_cpu, self.certificates())
    }

    pub(super) fn client_cpu_us(&self) -> f64 {
        micros(self.window.client_cpu, self.certificates())
    }

    /// The latency that `percent` of the calls did not exceed.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let all = &self.window.outcome.latencies;
        let at = (all.len() * percent / 100).min(all.len().saturating_sub(1));
        f64::from(all.get(at).copied().unwrap_or_default()) / 1e3
    }
}

fn micros(span: Duration, of: u32) -> f64 {
    span.as_secs_f64() * 1e6 / f64::from(of.max(1))
}

/// Starts a server, has its first certificate, loads it, looks the answers through, ends it.
pub(super) fn once(
    args: &BenchArgs,
    place: &Place,
    site: &Site,
    requests: &Arc<Vec<Request>>,
) -> Result<Run, Failure> {
    let mut server = Server::start(place, site)?;
    let target = Target::new(server.address()?, &site.root)?;
    let first_certificate = first(&server, &target, requests)?;
    thread::sleep(IDLE);
    let (rss_idle_mib, _) = server.memory()?;
    let connections = usize::try_from(args.connections).unwrap_or(usize::MAX);
    let span = Duration::from_secs(args.seconds);
    let mut window = load::measure(&server, &target, requests, connections, span)?;
    let (_, rss_load_mib) = server.memory()?;
    server.stop()?;

    let pem = fs::read(&site.root).map_err(|error| Failure::file("read", &site.root, &error))?;
    let root = parse_pem_chain(&pem).map_err(|error| failed(error.to_string()))?;
    let kept = std::mem::take(&mut window.outcome.kept);
    for (number, message) in &kept {
        let looked = match (requests.get(*number), root.first()) {
            (Some(request), Some(root)) => checks::answer(request, message, root),
            _ => Err("an answer to no call".to_owned()),
        };
        if let Err(why) = looked {
            window.outcome.fail(why);
        }
    }
    Ok(Run {
        window,
        checked: kept.len(),
        first_certificate,
        rss_idle_mib,
        rss_load_mib,
    })
}

/// From the start of the process to the first certificate in a caller's hands. The last of the
/// calls is used for it.
fn first(server: &Server<'_>, target: &Target, requests: &[Request]) -> Result<Duration, Failure> {
    let request = requests.last().ok_or_else(|| failed("no call was made"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let begun = Instant::now();
    loop {
        let asked = runtime.block_on(async {
            let mut connection = target.connect().await?;
            connection.call(request, false).await
        });
        match asked {
            Ok(_) => return Ok(server.started().elapsed()),
            Err(why) if begun.elapsed() > PATIENCE => {
                return Err(failed(format!("no certificate came: {why}")));
            }
            // Its own certificate, or its token, is still to come.
            Err(_) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Runs in turn on both ledgers; the fresh one is fresh each time.
pub(super) fn pairs(
    args: &BenchArgs,
    place: &Place,
    requests: &Arc<Vec<Request>>,
) -> Result<Vec<(Run, Run)>, Failure> {
    let [fresh, filled] = place.plan().sites.as_slice() else {
        return Err(failed("a comparison needs two ledgers"));
    };
    let copy = fresh.ledger.with_extension("new");
    fs::copy(&fresh.ledger, &copy).map_err(|e| Failure::file("copy", &fresh.ledger, &e))?;
    let mut runs = Vec::new();
    for number in 1..=args.pairs {
        fs::copy(&copy, &fresh.ledger).map_err(|e| Failure::file("copy", &copy, &e))?;
        let run = |site| once(args, place, site, requests);
        // Who begins changes, so that a machine that gets warmer or busier favours neither.
        let pair = match number % 2 {
            0 => {
                let second = run(filled)?;
                (run(fresh)?, second)
            }
            _ => (run(fresh)?, run(filled)?),
        };
        output::note(&format!(
            "bench: pair {number} of {}: {:.0} and {:.0} CSR/s",
            args.pairs,
            pair.0.per_second(),
            pair.1.per_second()
        ))?;
        runs.push(pair);
    }
    Ok(runs)
}
