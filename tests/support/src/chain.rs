//! An answer, parsed and verified as a whole.

use rootbridge::clock::{Clock as _, SystemClock};
use rootbridge::mesh::proto::rootbridge_v1::SignCertificateResponse;
use rootbridge::x509::{Certificate, parse_pem_chain, verify_ca_path};

/// The leaf, the CA certificates above it, the roots.
#[derive(Debug, Clone)]
pub struct Chain {
    pub leaf: Certificate,
    pub above: Vec<Certificate>,
    pub roots: Vec<Certificate>,
}

impl Chain {
    /// Of Istio's API: each element but the last holds one certificate, the last all roots.
    pub fn istio(elements: &[String]) -> Self {
        let (roots, path) = elements.split_last().unwrap();
        let mut path: Vec<_> = path
            .iter()
            .map(|pem| {
                let mut one = parse_pem_chain(pem.as_bytes()).unwrap();
                assert_eq!(
                    one.len(),
                    1,
                    "an element that is not the last holds one certificate"
                );
                one.remove(0)
            })
            .collect();
        let roots = parse_pem_chain(roots.as_bytes()).unwrap();
        Self {
            leaf: path.remove(0),
            above: path,
            roots,
        }
        .verified()
    }

    pub fn own(answer: &SignCertificateResponse) -> Self {
        let parse = |der: &Vec<u8>| Certificate::parse(der.as_slice()).unwrap();
        let mut path: Vec<_> = answer.chain.iter().map(parse).collect();
        let bundle = answer.trust_bundle.as_ref().unwrap();
        let roots = bundle.anchors.iter().map(parse).collect();
        Self {
            leaf: path.remove(0),
            above: path,
            roots,
        }
        .verified()
    }

    fn verified(self) -> Self {
        let now = SystemClock.now();
        verify_ca_path(&self.above, &self.roots, now).unwrap();
        self.leaf
            .verify_signed_by(self.above[0].public_key())
            .unwrap();
        assert_eq!(self.leaf.issuer_der(), self.above[0].subject_der());
        for above in self.above.iter().chain(&self.roots[..1]) {
            assert!(
                self.leaf.not_after() <= above.not_after(),
                "it outlives {}",
                above.subject()
            );
        }
        self
    }

    /// Leaf and intermediates in PEM, as a TLS client shows them.
    pub fn pem(&self) -> String {
        let all = std::iter::once(&self.leaf).chain(&self.above);
        all.map(Certificate::to_pem).collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.leaf.names().iter().map(ToString::to_string).collect()
    }

    /// From notBefore to notAfter, in seconds.
    pub fn lifetime(&self) -> u64 {
        self.leaf
            .not_after()
            .since(self.leaf.not_before())
            .as_secs()
    }
}
