//! A configuration: refused with a deterministic reason and location, or accepted with every value
//! within the bounds that the modules expect.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use rootbridge::authn::{self, Api};
use rootbridge::config::{Config, ConfigError};
use rootbridge::mesh::{ListenerConfig, TlsConfig};
use rootbridge::policy::{PolicyInput, Scope};
use rootbridge::x509::{Csr, SpiffeId, TrustDomain};

use super::scratch::Scratch;
use super::{Outcome, assert_printable};

static FILE: LazyLock<Mutex<Scratch>> = LazyLock::new(|| Mutex::new(Scratch::new(b"")));
static CSR: LazyLock<Csr> = LazyLock::new(|| {
    Csr::from_pem(include_bytes!(
        "../corpus/csr/ok-istio-agent-ecdsa-p256.pem"
    ))
    .expect("a CSR")
});

/// A file. A line `#!ROOTBRIDGE_A__B=value` is an override from the environment.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let variables: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#!")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (first, second) = {
        let mut file = FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        file.set(data);
        let load = || Config::load_with(&file.path(), &variables);
        (load(), load())
    };
    match (first, second) {
        (Ok(config), Ok(again)) => {
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            accepted(&config);
            Outcome::Accepted
        }
        (Err(error), Err(again)) => {
            assert_eq!(error, again);
            refused(&error);
            Outcome::Refused
        }
        (first, second) => panic!("{first:?}, then {second:?}"),
    }
}

fn refused(error: &ConfigError) {
    assert!(!error.findings().is_empty());
    for finding in error.findings() {
        assert_printable(finding.what());
        finding.to_write().into_iter().for_each(assert_printable);
        assert!(!finding.place().is_empty() && !finding.to_string().contains(char::is_control));
    }
}

fn within<T: PartialOrd + std::fmt::Debug>(value: T, bounds: RangeInclusive<T>) {
    assert!(bounds.contains(&value), "{value:?} is not in {bounds:?}");
}

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn accepted(config: &Config) {
    let instance = config.instance();
    assert!(!instance.name().is_empty() && instance.name().len() <= 253);
    within(instance.lease(), secs(5)..=secs(3600));
    match config.ledger().store().file() {
        Some(path) => {
            file(path);
            assert!(path.is_absolute());
        }
        None => assert!(!config.ledger().store().name().contains('?')),
    }
    hsm(config.hsm());
    let authn = config.authn();
    authn
        .jwt()
        .keys()
        .chain(authn.operators().keys())
        .for_each(|name| plain(name));
    for jwt in authn.jwt().values() {
        assert!(!jwt.issuer().is_empty());
        within(jwt.leeway(), Duration::ZERO..=secs(300));
        let audiences = [Api::Istio, Api::Certificates, Api::Admin].map(|api| jwt.audience(api));
        assert!(audiences.iter().any(Option::is_some));
        assert!(audiences.into_iter().flatten().all(|one| !one.is_empty()));
        is_domain(jwt.trust_domain());
    }
    for operator in authn.operators().values() {
        is_domain(operator.trust_domain());
        file(operator.credential_file());
    }
    for one in config.listeners() {
        listener(one, authn);
    }
    let admin = config.admin();
    assert!(admin.operators().is_empty() || admin.address().ip().is_loopback());
    assert!(
        admin
            .operators()
            .iter()
            .all(|name| authn.operators().contains_key(name))
    );
    for (at, one) in config.listeners().iter().enumerate() {
        let taken = |other: &ListenerConfig| other.address() == one.address();
        let free = one.address().port() == 0 || !config.listeners()[..at].iter().any(taken);
        assert!(free && (one.address().port() == 0 || one.address() != admin.address()));
    }
    if let Some(profile) = config.istio_profile() {
        assert!(config.policy().policy().has_profile(profile));
    }
    let filter = tracing_subscriber::EnvFilter::builder().parse(config.log().level());
    assert!(filter.is_ok());
    policy(config);
}

fn hsm(hsm: &rootbridge::hsm::Config) {
    file(hsm.module());
    assert!(hsm.module().is_absolute());
    within(hsm.workers(), 1..=256);
    within(hsm.queue(), 1..=65_536);
    within(hsm.deadline(), Duration::from_millis(50)..=secs(600));
    within(
        hsm.probe_interval(),
        Duration::from_millis(100)..=secs(3600),
    );
    for (name, value) in hsm.missing_environment() {
        // Valid in a process's environment.
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    }
    for name in hsm.token_names() {
        plain(name);
        let token = hsm.token(name).expect("its own name");
        assert!(!token.describe().is_empty());
        assert!(
            token
                .label()
                .is_none_or(|label| (1..=32).contains(&label.len()))
        );
        assert!(
            token
                .serial()
                .is_none_or(|serial| (1..=16).contains(&serial.len()))
        );
        match token.pin() {
            None => {}
            Some(rootbridge::hsm::PinSource::File(path)) => file(path),
            Some(rootbridge::hsm::PinSource::Env(name)) => {
                assert!(!name.is_empty() && !name.contains(['=', '\0']));
            }
        }
    }
}

fn listener(one: &ListenerConfig, authn: &authn::Config) {
    use rootbridge::mesh::Api;
    plain(one.name());
    let callers = one.callers();
    let serves = [Api::Istio, Api::Certificates, Api::Bundles].map(|api| one.serves(api));
    assert!(serves.contains(&true));
    // An API that issues certificates has callers.
    let has_callers = !callers.jwt().is_empty()
        || !callers.operators().is_empty()
        || callers.client_certificates().is_some();
    assert!(has_callers || serves == [false, false, true]);
    let mut issuers: Vec<&str> = callers
        .jwt()
        .iter()
        .map(|name| authn.jwt().get(name).expect("a verifier").issuer())
        .collect();
    issuers.sort_unstable();
    assert!(issuers.windows(2).all(|two| two[0] != two[1]));
    assert!(
        callers
            .operators()
            .iter()
            .all(|name| authn.operators().contains_key(name))
    );
    if let Some(certificates) = callers.client_certificates() {
        assert!(!certificates.trust_domains().is_empty());
        certificates.trust_domains().iter().for_each(is_domain);
        within(
            certificates.reauthenticate_after(),
            secs(60)..=secs(3650 * 86_400),
        );
    }
    match one.tls() {
        TlsConfig::Own(certificates) => {
            assert!(!certificates.is_empty());
            for own in certificates {
                is_domain(&own.trust_domain);
                assert!(!own.names.is_empty());
            }
        }
        TlsConfig::Files { certificate, key } => {
            file(certificate);
            file(key);
        }
        // Only for Linkerd's proxies: the proxy in the same pod has terminated TLS.
        TlsConfig::Plaintext => assert!(one.serves(Api::Linkerd)),
    }
    let limits = one.limits();
    within(limits.max_connections, 1..=1_000_000);
    within(limits.max_message_bytes, 32_768..=4_194_304);
    within(limits.max_header_bytes, 20_480..=1_048_576);
    within(limits.max_streams, 1..=10_000);
    for span in [
        limits.handshake_timeout,
        limits.keepalive_interval,
        limits.keepalive_timeout,
        limits.drain_timeout,
    ] {
        within(span, Duration::from_millis(100)..=secs(3600));
    }
}

fn file(path: &Path) {
    assert!(!path.as_os_str().is_empty());
}

/// A name that is printable in a log line.
fn plain(name: &str) {
    assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()));
}

fn is_domain(domain: &TrustDomain) {
    assert_eq!(TrustDomain::parse(domain.as_str()).as_ref(), Ok(domain));
}

/// Under any rules, a grant has the verifier's trust domain and the profile's bounds.
fn policy(config: &Config) {
    let policy = config.policy().policy();
    for (own, domain) in [
        ("spiffe://cluster.local/ns/foo/sa/bar", "cluster.local"),
        ("spiffe://cluster.local/ns/foo/sa/bar", "evil.example"),
    ] {
        let own = SpiffeId::parse(own).expect("a SPIFFE ID");
        let domain = TrustDomain::parse(domain).expect("a trust domain");
        let names = [rootbridge::x509::San::Spiffe(own.clone())];
        for scope in [Scope::Requested, Scope::CallerName, Scope::CallerNameByRule] {
            for ttl in [None, Some(secs(1)), Some(Duration::MAX)] {
                let input = PolicyInput {
                    trust_domain: &domain,
                    identity: own.as_str(),
                    caller_name: names.first(),
                    profile: "",
                    names: &names,
                    ttl,
                    scope,
                };
                match policy.decide(&input, &CSR) {
                    Ok(grant) => {
                        assert_eq!(&domain, own.trust_domain());
                        assert_eq!(grant.names(), names);
                        assert!(grant.profile().backdate() <= secs(3600));
                        assert!(ttl.is_none_or(|ttl| grant.ttl() <= ttl));
                        assert!(ttl.is_some() || grant.ttl() >= secs(60));
                    }
                    Err(denial) => assert_printable(denial),
                }
            }
        }
    }
}
