use super::mechanism;
use crate::x509::{PublicKey, SignatureAlgorithm};

/// What test signatures are made over: neither a certificate nor a certification request.
pub const TEST_MESSAGE: &[u8] = b"rootbridge HSM self-test: this is not a certificate";

/// A private key that is open for signing.
#[derive(Debug)]
pub(super) struct SigningKey {
    /// CKA_ID.
    pub(super) id: Vec<u8>,
    pub(super) public: PublicKey,
    /// Of the public key.
    pub(super) fingerprint: [u8; 32],
    pub(super) algorithm: SignatureAlgorithm,
}

impl SigningKey {
    /// Converts C_Sign's output over [`TEST_MESSAGE`], and verifies it in software.
    pub(super) fn verify_raw_test_signature(&self, raw: Vec<u8>) -> Result<(), String> {
        self.verify_test_signature(&mechanism::signature(self.public.kind(), raw)?)
    }

    pub(super) fn verify_test_signature(&self, signature: &[u8]) -> Result<(), String> {
        self.public
            .verify(self.algorithm, TEST_MESSAGE, signature)
            .map_err(|error| error.to_string())
    }
}
