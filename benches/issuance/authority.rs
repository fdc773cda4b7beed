//! An authority with its key in software.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rootbridge::clock::{Clock, SystemClock};
use rootbridge::ledger::{
    Actor, AnchorOrigin, CallerMethod, CallerRecord, Change, Intent, IssuerId, KeyLocation, Kind,
    Ledger, Role,
};
use rootbridge::x509::{
    CertificateSpec, IssuerIdentity, PublicKey, Serial, SignatureAlgorithm, SubjectSpec,
    TrustDomain, assemble, ca_name,
};

const TRUST_DOMAIN: &str = "cluster.local";

pub(crate) struct Authority {
    key: EcdsaKeyPair,
    pub(crate) public_key: PublicKey,
    pub(crate) identity: Arc<IssuerIdentity>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public_key = PublicKey::from_spki_der(key.public_key().as_der().unwrap().as_ref());
        let public_key = public_key.unwrap();
        let identity = IssuerIdentity {
            public_key: public_key.clone(),
            not_after: None,
            name_der: ca_name("cluster.local issuing CA", None).unwrap(),
            key_id: public_key.key_id().to_vec(),
            algorithm: SignatureAlgorithm::EcdsaSha256,
        };
        Self {
            key,
            public_key,
            identity: Arc::new(identity),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature = self.key.sign(&SystemRandom::new(), message).unwrap();
        signature.as_ref().to_vec()
    }

    /// Records the authority as active, and returns an intent for it.
    pub(crate) async fn intent(&self, ledger: &dyn Ledger) -> Intent {
        let now = SystemClock.now();
        let trust_domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
        let issuer = IssuerId::of_spki(self.public_key.spki_der());
        let der = self.certificate();
        let changes = [
            Change::CreateAuthority {
                trust_domain: trust_domain.clone(),
            },
            Change::AddIssuer {
                trust_domain: trust_domain.clone(),
                role: Role::Issuing,
                public_key: self.public_key.spki_der().to_vec(),
                location: KeyLocation {
                    token: "main".to_owned(),
                    token_serial: String::new(),
                    key_id: vec![1],
                    label: "key".to_owned(),
                },
                path_len: Some(0),
            },
            Change::AddCaCertificate {
                issuer: issuer.clone(),
                der: der.clone(),
                path: Vec::new(),
                anchor: der,
                origin: AnchorOrigin::Own,
                source: "benchmark".to_owned(),
                activate: true,
                retire: false,
            },
        ];
        let actor = Actor {
            name: "benchmark".to_owned(),
            via: "cli".to_owned(),
            lease: None,
        };
        for change in changes {
            ledger.apply(change, &actor).await.unwrap();
        }
        let subject = "spiffe://cluster.local/ns/foo/sa/bar".to_owned();
        Intent {
            kind: Kind::Leaf,
            issuer,
            ca_certificate: None,
            serial: None,
            tbs: vec![0x30; 440],
            algorithm: SignatureAlgorithm::EcdsaSha256,
            not_before: Some(now),
            not_after: Some(now.plus(Duration::from_secs(86_400))),
            subject: subject.clone(),
            profile: "workload".to_owned(),
            spki_sha256: [1; 32],
            bundle_digest: Some([2; 32]),
            caller: CallerRecord {
                trust_domain,
                identity: subject,
                method: CallerMethod::Jwt,
                detail: "cluster iss=https://kubernetes.default.svc.cluster.local kid=a".to_owned(),
                cluster: None,
                pod: Some("foo/bar-0 0f8fad5b-d9cb-469f-a165-70867728950e".to_owned()),
                node: Some("node-1".to_owned()),
                token_authenticated_at: Some(now),
            },
            request_id: "0123456789abcdef".to_owned(),
            epoch: ledger
                .register("benchmark", Duration::from_secs(3_600), now)
                .await
                .unwrap(),
            idempotency_key: None,
            recorded_at: now,

            lease: None,
        }
    }

    /// Self-signed.
    fn certificate(&self) -> Vec<u8> {
        let now = SystemClock.now();
        let spec = CertificateSpec {
            serial: Serial::new(now),
            issuer: Arc::clone(&self.identity),
            not_before: now,
            not_after: now.plus(Duration::from_secs(365 * 86_400)),
            names: Vec::new(),
            public_key: self.public_key.clone(),
            subject: SubjectSpec::Ca {
                name_der: self.identity.name_der.clone(),
                path_len: Some(0),
            },
        };
        let tbs = spec.to_tbs().unwrap();
        assemble(&tbs, self.identity.algorithm, &self.sign(&tbs)).unwrap()
    }
}
