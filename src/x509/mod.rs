//! Pure X.509: names, keys, requests, certificates and bundles, with no I/O.
//!
//! Untrusted input is parsed into types that are valid by construction (a [`Csr`] has proved
//! possession of its key, a [`SpiffeId`] is one); all output is built from those types.

mod algorithm;
mod bundle;
mod ca_name;
mod cert;
mod certificate_spec;
mod csr;
mod dn;
mod extension;
mod files;
mod issued;
mod key;
mod name;
mod name_constraints;
mod path;
mod pem;
mod read;
mod san;
mod serial;
mod verifiers;
mod write;

pub use algorithm::{SignatureAlgorithm, UnknownAlgorithm};
pub use bundle::{BundleError, MAX_BUNDLE_BYTES, TrustBundle};
pub use ca_name::{ca_name, successor_name};
pub use cert::{CertError, Certificate, assemble, parse_pem_chain};
pub use certificate_spec::{CertificateSpec, IssuerIdentity, SubjectSpec, TbsError, request_info};
pub use csr::{Csr, CsrError, CsrSubject, UnverifiedCsr};
pub use extension::{ExtendedKeyUsage, KeyUsage};
pub use files::{
    FileError, Format, MAX_CERTIFICATES, MAX_FILE_BYTES, Place, private_key_problem,
    read_certificate_ders, read_certificates,
};
pub use issued::{IssuedError, check_issued, check_names, check_request};
pub use key::{KeyError, KeyKind, NoCaKeyKind, PublicKey, UnknownKeyKind};
pub use name::{DnsName, LinkerdMesh, LinkerdName, NameError, SpiffeId, TrustDomain};
pub use path::{
    CaPath, PathError, PathFault, find_ca_path, name_ruled_out, remaining_path_len, verify_ca_path,
};
pub use pem::{PemError, to_pem};
pub use read::Malformed;
pub use san::San;
pub use serial::{Serial, SerialError};
pub use verifiers::{Objection, Position, Verifier};
