//! What every kind of upstream CA makes of the same answers. A kind brings an adapter, [`Protocol`]; the
//! certificates themselves are examined in one place for all kinds, see `examination.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use rcgen::{DistinguishedName, DnType, KeyPair};
use rootbridge::cluster::{RawCluster, check_clusters};
use rootbridge::config_issue::ConfigIssues;
use rootbridge::upstream::{Answer, Config, RawConfig, Submission, Unreachable, UpstreamCa};
use rootbridge::x509::{Certificate, TrustDomain, read_certificates};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::openssl::public_key;
use rootbridge_test_support::{TD, tls_server};
use tempfile::TempDir;

use crate::enterprise::{Bad, Behaviour, Enterprise};

/// How a kind of upstream CA wraps what the enterprise's CA says.
pub trait Protocol {
    /// Whether a CA of this kind can let a request wait.
    const WAITS: bool;
    /// Whether a CA of this kind says that it does not know a reference.
    const FORGETS: bool = Self::WAITS;
    /// Whether a reference stays the same from poll to poll.
    const STEADY: bool = true;
    /// Whether the kind sees HTTP itself, and not a program that it runs.
    const HTTP: bool = true;
    /// Whether it is read how long a busy server wants to be left alone.
    const BUSY: bool = Self::HTTP;

    /// The keys of `[upstream.corp]`, in lines; the files that they name are written to the directory.
    fn section(at: &At) -> String;

    /// The clusters that the section names.
    fn clusters(_: &At) -> BTreeMap<String, RawCluster> {
        BTreeMap::new()
    }

    /// The CA's server.
    fn router(ca: Arc<Enterprise>) -> Router;
}

/// Where a CA's server is.
pub struct At {
    pub directory: PathBuf,
    pub url: String,
    /// The root of its TLS certificate.
    pub ca_file: PathBuf,
}

/// Runs the contract for a kind.
macro_rules! contract {
    ($protocol:ty) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn certificates_are_handed_on_as_they_came() {
            $crate::contract::certificates_are_handed_on_as_they_came::<$protocol>().await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn what_the_ca_decides_is_told_from_what_it_does_not_say() {
            $crate::contract::what_the_ca_decides_is_told_from_what_it_does_not_say::<$protocol>()
                .await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn faults_of_the_server_say_nothing_about_the_request() {
            $crate::contract::faults_of_the_server_say_nothing_about_the_request::<$protocol>()
                .await;
        }
    };
}
pub(crate) use contract;

/// What the server does to every call before the CA sees it.
#[derive(Debug, Clone)]
enum Fault {
    Status(u16),
    Busy(u16, String),
    Redirect(String),
    Page,
    Huge,
    Silent,
}

/// A CA and its server.
struct Fixture<P> {
    directory: TempDir,
    ca: Arc<Enterprise>,
    fault: Arc<Mutex<Option<Fault>>>,
    at: At,
    protocol: std::marker::PhantomData<P>,
}

impl<P: Protocol> Fixture<P> {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Enterprise::new(directory.path().join("enterprise"));
        let fault = Arc::new(Mutex::new(None));
        let layer = from_fn_with_state(Arc::clone(&fault), faulty);
        let router = P::router(Arc::clone(&ca)).layer(layer);
        let ca_file = directory.path().join("tls.pem");
        let url = match P::HTTP {
            true => {
                let (port, pem) = tls_server::serve(router).await;
                fs::write(&ca_file, pem).unwrap();
                format!("https://127.0.0.1:{port}")
            }
            false => listen(router).await,
        };
        let at = At {
            directory: directory.path().to_owned(),
            url,
            ca_file,
        };
        Self {
            directory,
            ca,
            fault,
            at,
            protocol: std::marker::PhantomData,
        }
    }

    fn connect(&self) -> Arc<dyn UpstreamCa> {
        connect_at::<P>(&self.at, "timeout = \"60s\"\n")
    }

    fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }
}

/// Serves without TLS; the address.
pub async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn connect_at<P: Protocol>(at: &At, more: &str) -> Arc<dyn UpstreamCa> {
    connect_in(&(P::section(at) + more), P::clusters(at))
}

/// The CA that a section describes.
pub fn connect(section: &str) -> Arc<dyn UpstreamCa> {
    connect_in(section, BTreeMap::new())
}

/// The CA that a section describes, where it may be in one of these clusters.
pub fn connect_in(section: &str, clusters: BTreeMap<String, RawCluster>) -> Arc<dyn UpstreamCa> {
    let raw = RawConfig {
        upstream: BTreeMap::from([("corp".to_owned(), toml::from_str(section).unwrap())]),
        authority: BTreeMap::new(),
    };
    let mut issues = ConfigIssues::default();
    let mut config = Config::check(raw, &["main"], &mut issues);
    config.find_clusters(&check_clusters(clusters, &mut issues), &mut issues);
    let config = issues.into_result(Some(config));
    let config = config.unwrap_or_else(|issues| panic!("{issues:?}\n{section}"));
    let upstream = config.upstreams().get("corp");
    upstream.unwrap().connect()
}

/// A request for a new key.
pub fn submission() -> Submission {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, "Mesh CA");
    let csr = KeyAndCsr::with(KeyPair::generate().unwrap(), &[], subject);
    Submission {
        id: format!("{TD}-7"),
        trust_domain: TD.parse::<TrustDomain>().unwrap(),
        common_name: "Mesh CA".to_owned(),
        csr: csr.der,
        ttl: Duration::from_secs(30 * 86_400),
        path_len: 0,
    }
}

async fn faulty(
    State(fault): State<Arc<Mutex<Option<Fault>>>>,
    request: Request,
    next: Next,
) -> Response {
    let fault = fault.lock().unwrap().clone();
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(code)) => status(code).into_response(),
        Some(Fault::Busy(code, after)) => {
            (status(code), [("retry-after", after)], "later").into_response()
        }
        Some(Fault::Redirect(url)) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", url)]).into_response()
        }
        Some(Fault::Page) => "<!doctype html><html><body>Please log in".into_response(),
        Some(Fault::Huge) => vec![b'x'; 50 << 20].into_response(),
        Some(Fault::Silent) => std::future::pending().await,
    }
}

/// What has become of a request: where an answer takes a poll, after one.
async fn decided(
    upstream: &Arc<dyn UpstreamCa>,
    request: &Submission,
) -> Result<Answer, Unreachable> {
    match upstream.submit(request).await {
        Ok(Answer::Pending { reference, .. }) => upstream.poll(request, &reference).await,
        other => other,
    }
}

fn issued(answer: Result<Answer, Unreachable>) -> Vec<Certificate> {
    match answer {
        Ok(Answer::Issued(bytes)) => read_certificates(&bytes).unwrap(),
        other => panic!("not issued: {other:?}"),
    }
}

/// Why an answer cannot be used; it must not be taken for the CA's decision.
fn unusable(answer: Result<Answer, Unreachable>) -> String {
    match answer {
        Ok(Answer::Issued(bytes)) => match read_certificates(&bytes) {
            Err(error) => error.to_string(),
            Ok(read) => panic!("it was read: {read:?}"),
        },
        Ok(other) => panic!("a decision: {other:?}"),
        Err(error) => error.reason,
    }
}

pub async fn certificates_are_handed_on_as_they_came<P: Protocol>() {
    let fixture = Fixture::<P>::new().await;
    let upstream = fixture.connect();
    let request = submission();
    let file = fixture.directory.path().join("request.csr");
    let key = public_key(&file, &request.csr_pem());
    // The second time, as after a crash that followed the first.
    for time in ["first", "second"] {
        let certificates = issued(decided(&upstream, &request).await);
        let ours = |each: &&Certificate| each.public_key().spki_der() == key;
        assert_eq!(certificates.iter().filter(ours).count(), 1, "{time}");
        for above in [&fixture.ca.root, &fixture.ca.middle] {
            let above = read_certificates(above.pem().as_bytes()).unwrap().remove(0);
            assert!(certificates.contains(&above), "{time}: {above:?}");
        }
    }
    for bad in [
        Bad::Html,
        Bad::Empty,
        Bad::Garbage,
        Bad::GarbageBetween,
        Bad::Huge,
    ] {
        fixture.ca.tell(Behaviour::Bad(bad));
        let why = unusable(decided(&upstream, &submission()).await);
        assert!(!why.is_empty() && why.len() < 2000, "{bad:?}: {why}");
    }
}

pub async fn what_the_ca_decides_is_told_from_what_it_does_not_say<P: Protocol>() {
    let fixture = Fixture::<P>::new().await;
    let upstream = fixture.connect();
    let request = submission();
    let refuse = Behaviour::Refuse("the board said no");
    let refused = |answer: Result<Answer, Unreachable>| match answer {
        Ok(Answer::Refused(why)) => assert!(why.contains("the board said no"), "{why}"),
        other => panic!("not refused: {other:?}"),
    };
    fixture.ca.tell(refuse.clone());
    refused(decided(&upstream, &request).await);
    let request = submission();
    fixture.ca.tell(Behaviour::Down);
    let down = upstream.submit(&request).await;
    assert!(down.is_err(), "a CA that is down has decided: {down:?}");
    if !P::WAITS {
        return;
    }
    let pending = |answer: Result<Answer, Unreachable>| match answer {
        Ok(Answer::Pending { reference, .. }) => reference,
        other => panic!("not pending: {other:?}"),
    };
    fixture.ca.tell(Behaviour::Pending);
    let reference = pending(upstream.submit(&request).await);
    assert!((1..=512).contains(&reference.len()), "{reference}");
    // After a restart, too.
    let upstream = fixture.connect();
    let next = pending(upstream.poll(&request, &reference).await);
    assert!(!P::STEADY || next == reference, "{reference}: {next}");
    let reference = next;
    fixture.ca.tell(Behaviour::Down);
    let down = upstream.poll(&request, &reference).await;
    assert!(down.is_err(), "a CA that is down has decided: {down:?}");
    fixture.ca.tell(Behaviour::Issue);
    assert!(issued(upstream.poll(&request, &reference).await).len() >= 3);
    // That one is at its end.
    let request = submission();
    fixture.ca.tell(Behaviour::Pending);
    let reference = pending(upstream.submit(&request).await);
    fixture.ca.tell(refuse);
    refused(upstream.poll(&request, &reference).await);
    if P::FORGETS {
        let request = submission();
        fixture.ca.tell(Behaviour::Pending);
        let reference = pending(upstream.submit(&request).await);
        fixture.ca.tell(Behaviour::Forget);
        let forgotten = upstream.poll(&request, &reference).await;
        assert_eq!(forgotten, Ok(Answer::Forgotten));
    }
}

pub async fn faults_of_the_server_say_nothing_about_the_request<P: Protocol>() {
    let fixture = Fixture::<P>::new().await;
    let upstream = fixture.connect();
    let request = submission();
    let stranger = Fixture::<P>::new().await;
    let faults = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Redirect(format!("{}/", stranger.at.url)),
        Fault::Page,
        Fault::Huge,
    ];
    for fault in faults {
        fixture.fail(fault.clone());
        for answer in [
            upstream.submit(&request).await,
            upstream.poll(&request, "17").await,
        ] {
            // A kind that never waits knows no reference.
            if answer != Ok(Answer::Forgotten) {
                let why = unusable(answer);
                assert!(!why.is_empty() && why.len() < 2000, "{fault:?}: {why}");
            }
        }
    }
    assert!(stranger.ca.calls().is_empty(), "another server was asked");
    assert!(fixture.ca.calls().is_empty(), "the faults are in front");
    if P::BUSY {
        let date = |ahead| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(ahead));
        for (code, after, least, most) in [
            (429, "5000".to_owned(), 5000, 5000),
            (503, "77".to_owned(), 77, 77),
            (429, date(9000), 8000, 9000),
            (503, date(0), 0, 0),
        ] {
            fixture.fail(Fault::Busy(code, after.clone()));
            let busy = upstream.submit(&request).await.unwrap_err();
            let asked = busy.retry_after.map(|wait| wait.as_secs());
            assert!(
                asked.is_some_and(|wait| (least..=most).contains(&wait)),
                "{code} {after}: {busy:?}"
            );
        }
    }
    if P::HTTP {
        fixture.fail(Fault::Silent);
        let hasty = connect_at::<P>(&fixture.at, "timeout = \"1s\"\n");
        let silent = hasty.submit(&request).await.unwrap_err();
        assert!(silent.reason.contains("timed out"), "{silent:?}");
        // From now on the roots are those of another server.
        fs::copy(&stranger.at.ca_file, &fixture.at.ca_file).unwrap();
        let untrusted = upstream.submit(&request).await.unwrap_err();
        assert!(untrusted.reason.contains("certificate"), "{untrusted:?}");
    }
    let gone = At {
        // Nothing listens there.
        url: "https://127.0.0.1:1".to_owned(),
        directory: fixture.at.directory.clone(),
        ca_file: fixture.at.ca_file.clone(),
    };
    let gone = connect_at::<P>(&gone, "").submit(&request).await;
    assert!(gone.is_err(), "nobody was there to decide: {gone:?}");
}
