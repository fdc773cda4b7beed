//! Checks sampled answers after the measurement: a certificate for the requested key and name, issued
//! by the server's own authority.

use anyhow::{Result, bail, ensure};
use prost::Message as _;
use rootbridge::mesh::proto::istio::IstioCertificateResponse;
use rootbridge::x509::{Certificate, Csr, parse_pem_chain};

use crate::requests::{FRAME_LEN, Request};

/// Checks `answer`, a gRPC frame, to `request`; `root` is the authority's.
pub(crate) fn check(request: &Request, answer: &[u8], root: &Certificate) -> Result<()> {
    let csr = Csr::from_pem(request.decode()?.csr.as_bytes())?;
    let chain = chain(answer)?;
    let [leaf, issuing, anchor] = chain.as_slice() else {
        bail!("{} certificates instead of 3", chain.len());
    };
    ensure!(
        leaf.public_key() == csr.public_key(),
        "a certificate for another key"
    );
    ensure!(
        leaf.names() == csr.names() && !leaf.has_other_names() && !leaf.is_ca(),
        "a certificate for another name"
    );
    ensure!(anchor == root, "another root");
    issuing.verify_signed_by(root.public_key())?;
    leaf.verify_signed_by(issuing.public_key())?;
    Ok(())
}

/// The certificates in `answer`, the leaf first.
pub(crate) fn chain(answer: &[u8]) -> Result<Vec<Certificate>> {
    let answer = IstioCertificateResponse::decode(answer.get(FRAME_LEN..).unwrap_or_default())?;
    Ok(parse_pem_chain(answer.cert_chain.concat().as_bytes())?)
}
