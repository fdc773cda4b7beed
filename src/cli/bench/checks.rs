//! Answers, looked through when nothing is measured any more: a certificate for the key and the
//! name that were asked for, from the authority that was asked.

use prost::Message as _;

use super::requests::Request;
use crate::mesh::proto::istio::IstioCertificateResponse;
use crate::x509::{Certificate, Csr, parse_pem_chain};

/// Looks through one answer to `request`; `root` is the authority's.
pub(super) fn answer(request: &Request, message: &[u8], root: &Certificate) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let asked = Csr::from_pem(request.asked()?.csr.as_bytes()).map_err(|e| text(&e))?;
    let message = message.get(5..).unwrap_or_default();
    let answer = IstioCertificateResponse::decode(message).map_err(|e| text(&e))?;
    let chain = answer
        .cert_chain
        .iter()
        .map(|pem| parse_pem_chain(pem.as_bytes()).map_err(|e| text(&e)))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let [leaf, issuing, anchor] = chain.as_slice() else {
        return Err(format!("{} certificates where 3 belong", chain.len()));
    };
    if leaf.public_key() != asked.public_key() {
        return Err("a certificate for another key".to_owned());
    }
    if leaf.names() != asked.names() || leaf.has_other_names() || leaf.is_ca() {
        return Err("a certificate for another name".to_owned());
    }
    if anchor != root {
        return Err("another root".to_owned());
    }
    issuing
        .verify_signed_by(root.public_key())
        .map_err(|e| text(&e))?;
    leaf.verify_signed_by(issuing.public_key())
        .map_err(|e| text(&e))
}
