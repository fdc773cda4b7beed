//! Keys, certificates and intents to fill a ledger with.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use futures_util::future::BoxFuture;
use rootbridge::clock::{FixedClock, UnixTime};
use rootbridge::ledger::{
    Actor, AnchorOrigin, CaCertificateId, CallerMethod, CallerRecord, Change, Epoch, Intent,
    IssuerId, KeyLocation, Kind, Ledger, Outcome, Record, Role,
};
use rootbridge::x509::{
    Certificate, CertificateSpec, ExtendedKeyUsage, IssuerIdentity, PublicKey, San, Serial,
    SignatureAlgorithm, SpiffeId, SubjectSpec, TrustDomain, assemble, ca_name,
};

/// 2026-09-21T14:13:20Z, when every test begins.
pub const NOW: UnixTime = UnixTime::from_secs(1_790_000_000);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const LEASE: Duration = Duration::from_secs(30);

/// One store, which several processes may open.
pub trait Store: Sync {
    /// The server's ledger.
    fn server(&self) -> BoxFuture<'_, Arc<dyn Ledger>>;
    /// Another process's ledger on the same store.
    fn other(&self) -> BoxFuture<'_, Arc<dyn Ledger>>;
    /// What the store takes for the time.
    fn clock(&self) -> &FixedClock;
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub fn operator() -> Actor {
    Actor {
        name: "alice".into(),
        via: "cli".into(),
        lease: None,
    }
}

/// A CA's key in software.
pub struct Key {
    pair: EcdsaKeyPair,
    pub public: PublicKey,
}

impl Key {
    pub fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let mut spki = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\
            \xce\x3d\x03\x01\x07\x03\x42\x00"
            .to_vec();
        spki.extend_from_slice(pair.public_key().as_ref());
        let public = PublicKey::from_spki_der(&spki).unwrap();
        Self { pair, public }
    }

    pub fn id(&self) -> IssuerId {
        IssuerId::of_spki(self.public.spki_der())
    }

    pub fn sign(&self, tbs: &[u8]) -> Vec<u8> {
        self.pair
            .sign(&SystemRandom::new(), tbs)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    /// A CA certificate for `subject`'s key, signed by this one.
    pub fn certify(&self, name: &str, subject: &Key, subject_name: &str) -> Vec<u8> {
        self.certify_until(name, subject, subject_name, NOW.plus(365 * DAY))
    }

    pub fn certify_until(
        &self,
        name: &str,
        subject: &Key,
        subject_name: &str,
        not_after: UnixTime,
    ) -> Vec<u8> {
        let algorithm = SignatureAlgorithm::EcdsaSha256;
        let issuer = IssuerIdentity::root(ca_name(name, None).unwrap(), &self.public, algorithm);
        let spec = CertificateSpec {
            serial: Serial::new(NOW),
            issuer: Arc::new(issuer),
            not_before: NOW.minus(DAY),
            not_after,
            names: Vec::new(),
            public_key: subject.public.clone(),
            subject: SubjectSpec::Ca {
                name_der: ca_name(subject_name, None).unwrap(),
                path_len: None,
            },
        };
        let tbs = spec.to_tbs().unwrap();
        assemble(&tbs, algorithm, &self.sign(&tbs)).unwrap()
    }

    /// A root of its own.
    pub fn root(&self, name: &str) -> Vec<u8> {
        self.certify(name, self, name)
    }
}

pub fn sha256(der: &[u8]) -> [u8; 32] {
    Certificate::parse(der).unwrap().fingerprint()
}

pub fn place(token: &str) -> KeyLocation {
    KeyLocation {
        token: token.into(),
        token_serial: "0123".into(),
        key_id: vec![1, 2, 3],
        label: format!("key on {token}"),
    }
}

/// A ledger with an authority whose issuing CA is active.
pub struct Fixture {
    pub ledger: Arc<dyn Ledger>,
    pub domain: TrustDomain,
    pub root: Key,
    pub root_der: Vec<u8>,
    pub issuing: Key,
    pub issuing_der: Vec<u8>,
    pub certificate: CaCertificateId,
    pub epoch: Epoch,
}

impl Fixture {
    pub async fn build(ledger: Arc<dyn Ledger>) -> Self {
        Self::build_for(ledger, "mesh.example").await
    }

    pub async fn build_for(ledger: Arc<dyn Ledger>, name: &str) -> Self {
        let (by, domain) = (operator(), domain(name));
        let (root, issuing) = (Key::new(), Key::new());
        let (root_name, issuing_name) = (format!("{name} root"), format!("{name} issuing"));
        let root_der = root.root(&root_name);
        let issuing_der = root.certify(&root_name, &issuing, &issuing_name);
        let create = Change::CreateAuthority {
            trust_domain: domain.clone(),
        };
        ledger.apply(create, &by).await.unwrap();
        for (key, role) in [(&root, Role::Root), (&issuing, Role::Issuing)] {
            ledger
                .apply(add_issuer(&domain, key, role), &by)
                .await
                .unwrap();
        }
        let add = add_certificate(&root, &root_der, &root_der);
        ledger.apply(add, &by).await.unwrap();
        let add = add_certificate(&issuing, &issuing_der, &root_der);
        let certificate = ledger.apply(add, &by).await.unwrap().certificate.unwrap();
        let epoch = ledger.register("server-0", LEASE, NOW).await.unwrap();
        Self {
            ledger,
            domain,
            root,
            root_der,
            issuing,
            issuing_der,
            certificate,
            epoch,
        }
    }

    /// A leaf to be signed, not a certificate that would parse: most tests need no more.
    pub fn intent(&self, subject: &str) -> Intent {
        intent(&self.issuing.id(), &self.domain, &self.epoch, subject)
    }

    /// A leaf whose bytes are what its fields say.
    pub fn leaf(&self, account: &str) -> Intent {
        let serial = Serial::new(NOW);
        let name = SpiffeId::service_account(&self.domain, "foo", account).unwrap();
        let subject = name.to_string();
        let key = Key::new();
        let issuing = Certificate::parse(self.issuing_der.as_slice()).unwrap();
        let spec = CertificateSpec {
            serial,
            issuer: Arc::new(IssuerIdentity::of(&issuing).unwrap()),
            not_before: NOW,
            not_after: NOW.plus(DAY),
            names: vec![San::Spiffe(name)],
            public_key: key.public.clone(),
            subject: SubjectSpec::EndEntity(ExtendedKeyUsage::SERVER_AND_CLIENT),
        };
        Intent {
            tbs: spec.to_tbs().unwrap(),
            serial: Some(serial),
            spki_sha256: key.public.fingerprint(),
            ca_certificate: Some(self.certificate),
            ..self.intent(&subject)
        }
    }

    pub async fn issue(&self, intent: Intent) -> rootbridge::ledger::IntentId {
        let signature = self.issuing.sign(&intent.tbs);
        let id = new(self.ledger.record(intent).await.unwrap());
        self.ledger
            .conclude(id, Outcome::Issued { signature })
            .await
            .unwrap();
        id
    }
}

pub fn intent(issuer: &IssuerId, domain: &TrustDomain, epoch: &Epoch, subject: &str) -> Intent {
    Intent {
        kind: Kind::Leaf,
        issuer: issuer.clone(),
        ca_certificate: None,
        serial: Some(Serial::new(NOW)),
        tbs: vec![0x30; 450],
        algorithm: SignatureAlgorithm::EcdsaSha256,
        not_before: Some(NOW),
        not_after: Some(NOW.plus(DAY)),
        subject: subject.into(),
        profile: "workload".into(),
        spki_sha256: [7; 32],
        bundle_digest: Some([8; 32]),
        caller: CallerRecord {
            trust_domain: domain.clone(),
            identity: subject.into(),
            method: CallerMethod::Jwt,
            detail: "https://kubernetes.default.svc kid-1".into(),
            cluster: Some("Kubernetes".into()),
            pod: Some("foo/bar-5d8f7c-x2x4z/1b4e28ba-2fa1-11d2-883f-0016d3cca427".into()),
            node: Some("node-1".into()),
            token_authenticated_at: Some(NOW),
        },
        request_id: "01JH9Z8Q4W6M2N0000000000".into(),
        epoch: epoch.clone(),
        idempotency_key: None,
        recorded_at: NOW,

        lease: None,
    }
}

pub fn new(record: Record) -> rootbridge::ledger::IntentId {
    match record {
        Record::New(id) => id,
        Record::Existing { id, .. } => panic!("intent {id} was there before"),
    }
}

pub fn issued(signature: &[u8]) -> Outcome {
    Outcome::Issued {
        signature: signature.to_vec(),
    }
}

pub fn failed(reason: &str) -> Outcome {
    Outcome::Failed {
        reason: reason.into(),
    }
}

pub fn unknown(reason: &str) -> Outcome {
    Outcome::Unknown {
        reason: reason.into(),
    }
}

pub fn add_issuer(domain: &TrustDomain, key: &Key, role: Role) -> Change {
    Change::AddIssuer {
        trust_domain: domain.clone(),
        role,
        public_key: key.public.spki_der().to_vec(),
        location: place("first"),
        path_len: (role == Role::Issuing).then_some(0),
    }
}

/// A certificate put to use at once.
pub fn add_certificate(key: &Key, der: &[u8], anchor: &[u8]) -> Change {
    Change::AddCaCertificate {
        issuer: key.id(),
        der: der.to_vec(),
        path: Vec::new(),
        anchor: anchor.to_vec(),
        origin: AnchorOrigin::Own,
        source: "ca init".into(),
        activate: true,
        retire: false,
    }
}
