//! One run of a server under load, and pairs of them.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::BenchArgs;
use super::checks;
use super::connection::Target;
use super::load::{self, Course, Window};
use super::place::{Place, Site, failed};
use super::requests::Request;
use super::server::Server;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::x509::{Certificate, parse_pem_chain};

/// How long a server may take to its first certificate before that is an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// Until the memory of an idle server is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// What one run came to.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) window: Window,
    pub(super) first_certificate: Duration,
    pub(super) rss_idle_mib: f64,
    pub(super) rss_load_mib: f64,
}

/// Starts a server, has its first certificate, loads it, looks the answers through, ends it.
pub(super) fn once(
    args: &BenchArgs,
    place: &Place,
    site: &Site,
    requests: &Arc<Vec<Request>>,
) -> Result<Run, Failure> {
    let mut up = Up::start(place, site, requests)?;
    thread::sleep(IDLE);
    let (rss_idle_mib, _) = up.server.memory()?;
    let course = Course::new(requests);
    let window = up.load(args, &course)?;
    let (_, rss_load_mib) = up.server.memory()?;
    up.server.stop()?;
    Ok(Run {
        window,
        first_certificate: up.first_certificate,
        rss_idle_mib,
        rss_load_mib,
    })
}

/// Both servers under load in turn, while the other one has nothing to do: what else happens on
/// the machine happens to both.
pub(super) fn pairs(
    args: &BenchArgs,
    place: &Place,
    requests: &Arc<Vec<Request>>,
) -> Result<Vec<(Window, Window)>, Failure> {
    let [one, other] = place.plan().sites.as_slice() else {
        return Err(failed("a comparison needs two servers"));
    };
    let (mut one, mut other) = (
        Up::start(place, one, requests)?,
        Up::start(place, other, requests)?,
    );
    let course = Course::new(requests);
    let mut windows = Vec::new();
    for number in 1..=args.pairs {
        // Who begins changes, so that a machine that becomes busier favours neither.
        let pair = match number % 2 {
            0 => {
                let second = other.load(args, &course)?;
                (one.load(args, &course)?, second)
            }
            _ => (one.load(args, &course)?, other.load(args, &course)?),
        };
        output::note(&format!(
            "bench: pair {number} of {}: {:.0} and {:.0} CSR/s",
            args.pairs,
            pair.0.per_second(),
            pair.1.per_second()
        ))?;
        windows.push(pair);
    }
    one.server.stop()?;
    other.server.stop()?;
    Ok(windows)
}

/// A server that has issued its first certificate.
struct Up<'a> {
    server: Server<'a>,
    target: Target,
    root: Certificate,
    first_certificate: Duration,
}

impl<'a> Up<'a> {
    fn start(place: &'a Place, site: &Site, requests: &[Request]) -> Result<Self, Failure> {
        let pem =
            fs::read(&site.root).map_err(|error| Failure::file("read", &site.root, &error))?;
        let root = parse_pem_chain(&pem).map_err(|error| failed(error.to_string()))?;
        let root = root.into_iter().next().ok_or_else(|| failed("no root"))?;
        let mut server = Server::start(place, site)?;
        let target = Target::new(server.address()?, &root)?;
        let first_certificate = first(&server, &target, requests)?;
        Ok(Self {
            server,
            target,
            root,
            first_certificate,
        })
    }

    fn load(&mut self, args: &BenchArgs, course: &Arc<Course>) -> Result<Window, Failure> {
        let connections = usize::try_from(args.connections).unwrap_or(usize::MAX);
        let span = Duration::from_secs(args.seconds);
        let mut window = load::measure(&self.server, &self.target, course, connections, span)?;
        for (number, message) in std::mem::take(&mut window.outcome.kept) {
            window.checked += 1;
            let looked = match course.request(number) {
                Some(request) => checks::answer(request, &message, &self.root),
                None => Err("an answer to no call".to_owned()),
            };
            if let Err(why) = looked {
                window.outcome.fail(why);
            }
        }
        Ok(window)
    }
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
