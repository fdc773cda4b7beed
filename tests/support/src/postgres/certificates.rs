//! The certificates of a server and of a client.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};

use super::{CERTIFIED, PostgresServer};
use crate::files::write_secret;

impl PostgresServer {
    pub(super) fn write_certificates(&self) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        fs::write(self.roots(), ca_certificate.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::default();
        server.subject_alt_names = vec![SanType::IpAddress(self.address.parse().unwrap())];
        let issuer = Issuer::new(ca, ca_key);
        let certificate = server.signed_by(&key, &issuer).unwrap();
        fs::write(self.directory.join("server.pem"), certificate.pem()).unwrap();
        let path = self.directory.join("server.key");
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.give_away(&path);
        let key = KeyPair::generate().unwrap();
        let mut client = CertificateParams::default();
        let name = rcgen::DnType::CommonName;
        client.distinguished_name = rcgen::DistinguishedName::new();
        client.distinguished_name.push(name, CERTIFIED);
        let certificate = client.signed_by(&key, &issuer).unwrap();
        let (certificate_file, key_file) = self.client_certificate();
        fs::write(certificate_file, certificate.pem()).unwrap();
        write_secret(&key_file, &key.serialize_pem());
    }
}
