//! Client certificates: only what the trust domain's ledger holds, exactly, and not for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, SanType};
use rootbridge::authn::{
    AuthnError, Caller, CertificateStatus, CertificateStatusSource, CertificateVerifier,
    ClientCertificate, LookupError, Method, RawCallers,
};
use rootbridge::clock::{FixedClock, UnixTime};
use rootbridge::x509::{Certificate, TrustDomain};

use crate::support::{NOW, parse};

pub(crate) const DAY: i64 = 24 * 3600;
/// 2026-09-20 and 2026-10-01, at midnight: rcgen takes days.
const NOT_BEFORE: i64 = NOW - 137_600;
const NOT_AFTER: i64 = NOW + 812_800;
pub(crate) const ID: &str = "spiffe://cluster.local/ns/foo/sa/vm";

/// What a ledger would say.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) held: Mutex<HashMap<(String, Vec<u8>), CertificateStatus>>,
    pub(crate) asked: Mutex<usize>,
    pub(crate) revision: Mutex<u64>,
    pub(crate) down: Mutex<bool>,
}

impl CertificateStatusSource for Ledger {
    fn revision(&self) -> BoxFuture<'_, Result<u64, LookupError>> {
        Box::pin(async move {
            match *self.down.lock().unwrap() {
                true => Err(LookupError("the ledger is busy".to_owned())),
                false => Ok(*self.revision.lock().unwrap()),
            }
        })
    }

    fn find<'a>(
        &'a self,
        trust_domain: &'a TrustDomain,
        leaf: &'a Certificate,
        _revision: u64,
    ) -> BoxFuture<'a, Result<Option<CertificateStatus>, LookupError>> {
        Box::pin(async move {
            *self.asked.lock().unwrap() += 1;
            if *self.down.lock().unwrap() {
                return Err(LookupError("the ledger is busy".to_owned()));
            }
            let key = (trust_domain.as_str().to_owned(), leaf.der().to_vec());
            Ok(self.held.lock().unwrap().get(&key).cloned())
        })
    }
}

pub(crate) struct Fixture {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) callers: CertificateVerifier,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let ledger = Arc::new(Ledger::default());
        let clock = Arc::new(FixedClock::new(UnixTime::from_secs(NOW)));
        let raw: RawCallers = toml::from_str(
            "client_certificates = { trust_domains = [\"cluster.local\", \"two.example\"], reauthenticate_after = \"30d\" }",
        )
        .unwrap();
        let config = parse("")
            .callers("listeners.mesh", raw)
            .unwrap()
            .client_certificates()
            .unwrap()
            .clone();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            callers: CertificateVerifier::new(config, ledger.clone(), clock.clone()),
            issuer: CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap(),
            ledger,
            clock,
        }
    }

    /// A certificate that has begun and will not end for days.
    pub(crate) fn leaf(&self, uris: &[&str], dns: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .chain(
                dns.iter()
                    .map(|name| SanType::DnsName((*name).try_into().unwrap())),
            )
            .collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = rcgen::date_time_ymd(2026, 9, 20);
        params.not_after = rcgen::date_time_ymd(2026, 10, 1);
        params.use_authority_key_identifier_extension = true;
        params
            .signed_by(&KeyPair::generate().unwrap(), &self.issuer)
            .unwrap()
            .der()
            .to_vec()
    }

    pub(crate) fn status() -> CertificateStatus {
        CertificateStatus {
            released: true,
            revoked: false,
            issuer_retired: false,
            not_after: UnixTime::from_secs(NOT_AFTER),
            trust_domain: TrustDomain::parse("cluster.local").unwrap(),
            subject: ID.to_owned(),
            token_authenticated_at: Some(UnixTime::from_secs(NOW - 25 * DAY)),
            cluster: Some("east".to_owned()),
            pod: None,
        }
    }

    pub(crate) fn hold(&self, leaf: &[u8], status: CertificateStatus) {
        let key = ("cluster.local".to_owned(), leaf.to_vec());
        self.ledger.held.lock().unwrap().insert(key, status);
    }

    pub(crate) async fn ask(&self, leaf: &[u8]) -> Result<Caller, AuthnError> {
        self.callers
            .authenticate(&ClientCertificate::new(leaf))
            .await
    }

    pub(crate) async fn rejects(&self, leaf: &[u8], why: &str) {
        match self.ask(leaf).await {
            Err(AuthnError::Rejected { reason }) => {
                assert!(reason.contains(why), "{reason} / {why}")
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_in_the_ledger_authenticates_its_holder() {
    let fixture = Fixture::new();
    for dns in [&[][..], &["vm.example"]] {
        let leaf = fixture.leaf(&[ID], dns);
        fixture.hold(
            &leaf,
            CertificateStatus {
                subject: [&[ID], dns].concat().join(" "),
                ..Fixture::status()
            },
        );
        let caller = fixture.ask(&leaf).await.unwrap();
        assert_eq!(caller.identity.to_string(), ID);
        assert_eq!(caller.trust_domain.as_str(), "cluster.local");
        // Handed on, not renewed: else renewals would never end.
        assert_eq!(
            caller.token_authenticated_at,
            Some(UnixTime::from_secs(NOW - 25 * DAY))
        );
        let parsed = Certificate::parse(leaf).unwrap();
        let Method::Certificate {
            serial,
            issuer_key_id,
        } = caller.method
        else {
            panic!()
        };
        assert_eq!(serial.as_bytes(), parsed.serial().as_bytes());
        assert_eq!(issuer_key_id.as_deref(), parsed.authority_key_id());
        assert!(issuer_key_id.is_some());
    }
}

#[tokio::test]
async fn with_any_other_status_it_does_not_authenticate() {
    let fixture = Fixture::new();
    let leaf = fixture.leaf(&[ID], &[]);
    let good = Fixture::status;
    let two = TrustDomain::parse("two.example").unwrap();
    let at = UnixTime::from_secs;
    for (status, why) in [
        (
            CertificateStatus {
                released: false,
                ..good()
            },
            "never released",
        ),
        (
            CertificateStatus {
                revoked: true,
                ..good()
            },
            "is revoked",
        ),
        (
            CertificateStatus {
                issuer_retired: true,
                ..good()
            },
            "issuer is retired",
        ),
        (
            CertificateStatus {
                not_after: at(NOW - 1),
                ..good()
            },
            "has expired",
        ),
        (
            CertificateStatus {
                trust_domain: two,
                ..good()
            },
            "another trust domain",
        ),
        (
            CertificateStatus {
                subject: "spiffe://cluster.local/ns/foo/sa/other".to_owned(),
                ..good()
            },
            "another name",
        ),
        (
            CertificateStatus {
                subject: String::new(),
                ..good()
            },
            "another name",
        ),
        (
            CertificateStatus {
                subject: format!("{ID}2"),
                ..good()
            },
            "another name",
        ),
        (
            CertificateStatus {
                token_authenticated_at: None,
                ..good()
            },
            "never presented a token",
        ),
        (
            CertificateStatus {
                token_authenticated_at: Some(at(NOW - 30 * DAY)),
                ..good()
            },
            "reauthenticate_after",
        ),
        (
            CertificateStatus {
                token_authenticated_at: Some(at(i64::MIN)),
                ..good()
            },
            "reauthenticate_after",
        ),
    ] {
        fixture.hold(&leaf, status);
        fixture.rejects(&leaf, why).await;
    }
    let edge = CertificateStatus {
        token_authenticated_at: Some(at(NOW - 30 * DAY + 1)),
        not_after: at(NOW),
        ..good()
    };
    fixture.hold(&leaf, edge);
    assert!(fixture.ask(&leaf).await.is_ok());
}

#[tokio::test]
async fn it_is_judged_at_every_call() {
    let fixture = Fixture::new();
    let leaf = fixture.leaf(&[ID], &[]);
    fixture.hold(&leaf, Fixture::status());
    assert!(fixture.ask(&leaf).await.is_ok());
    fixture.hold(
        &leaf,
        CertificateStatus {
            revoked: true,
            ..Fixture::status()
        },
    );
    fixture.rejects(&leaf, "is revoked").await;
    fixture.hold(&leaf, Fixture::status());
    assert!(fixture.ask(&leaf).await.is_ok());
    fixture.clock.set(UnixTime::from_secs(NOW + 5 * DAY));
    fixture.rejects(&leaf, "reauthenticate_after").await;
    // Its first and its last second are its own.
    for (at, valid) in [
        (NOT_BEFORE - 1, false),
        (NOT_BEFORE, true),
        (NOT_AFTER, true),
        (NOT_AFTER + 1, false),
    ] {
        let status = CertificateStatus {
            token_authenticated_at: Some(UnixTime::from_secs(at)),
            not_after: UnixTime::from_secs(NOT_AFTER),
            ..Fixture::status()
        };
        fixture.hold(&leaf, status);
        fixture.clock.set(UnixTime::from_secs(at));
        match valid {
            true => drop(fixture.ask(&leaf).await.unwrap()),
            false => fixture.rejects(&leaf, "is valid from").await,
        }
    }
    fixture.hold(&leaf, Fixture::status());
    fixture.clock.set(UnixTime::from_secs(NOW));
    *fixture.ledger.down.lock().unwrap() = true;
    let answer = fixture.ask(&leaf).await;
    let Err(AuthnError::Unavailable(why)) = answer else {
        panic!("{answer:?}")
    };
    assert!(why.contains("the ledger is busy"), "{why}");
    *fixture.ledger.down.lock().unwrap() = false;
    assert!(fixture.ask(&leaf).await.is_ok());
}

#[tokio::test]
async fn names_decide_before_the_ledger_is_asked() {
    let fixture = Fixture::new();
    for (uris, dns, why) in [
        (&[][..], &[][..], "no SPIFFE ID"),
        (&[], &["vm.example"], "no SPIFFE ID"),
        (
            &[ID, "spiffe://cluster.local/ns/foo/sa/admin"],
            &[],
            "more than one URI",
        ),
        (&[ID, ID], &[], "more than one URI"),
        (&[ID, "https://vm.example/"], &[], "names of other kinds"),
        (&["https://vm.example/"], &[], "names of other kinds"),
        (
            &["spiffe://cluster.local"],
            &[],
            "names a trust domain, no workload",
        ),
        (
            &["spiffe://evil.example/ns/foo/sa/vm"],
            &[],
            "are not accepted here",
        ),
        (
            &["spiffe://cluster.local.evil.example/ns/foo/sa/vm"],
            &[],
            "are not accepted here",
        ),
        (
            &["spiffe://a,cluster.local,b/ns/x/sa/y"],
            &[],
            "names of other kinds",
        ),
    ] {
        let leaf = fixture.leaf(uris, dns);
        fixture.hold(&leaf, Fixture::status());
        fixture.rejects(&leaf, why).await;
    }
    for junk in [
        &b""[..],
        b"\x30",
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0; 100],
        &vec![0x30; 16 * 1024],
    ] {
        fixture.rejects(junk, "it cannot be read").await;
    }
    let long = vec![0x30; 16 * 1024 + 1];
    fixture
        .rejects(&long, "it has 16385 bytes, more than")
        .await;
    let mut trailing = fixture.leaf(&[ID], &[]);
    trailing.push(0);
    fixture.hold(&trailing, Fixture::status());
    fixture.rejects(&trailing, "it cannot be read").await;
    assert_eq!(*fixture.ledger.asked.lock().unwrap(), 0);
}
