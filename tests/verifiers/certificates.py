#!/usr/bin/env python3
"""Verifies certificates with programs that share no code with Rootbridge.

Standard input is a JSON list of cases:

    {"name": "leaf rsa-2048", "shape": "leaf" | "server" | "issuing" | "root",
     "chain": PEM file (the certificate, then its intermediates), "roots": PEM file,
     "key": PKCS#8 PEM file (leaf only), "spiffe_id": text (leaf only), "dns": text (server only)}

Standard output is a JSON list of findings, empty when every verifier accepts.
"""

import json
import os
import subprocess
import sys
import tempfile

import pem
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification
from pkilint import loader, report
from pkilint.pkix import certificate, extension, name
from pkilint.validation import ValidationFindingSeverity
from spiffe.bundle.x509_bundle.x509_bundle import X509Bundle
from spiffe.spiffe_id.spiffe_id import SpiffeId
from spiffe.svid.x509_svid import X509Svid

# pkilint holds a `spiffe://` URI to be malformed; RFC 3986 and the SPIFFE standard do not.
FALSE_FINDINGS = {"pkix.invalid_uri_syntax"}


def pkilint(path):
    """What the command `lint_pkix_cert lint -s WARNING` reports, without its start-up time."""
    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    der = x509.load_pem_x509_certificate(first(path)).public_bytes(serialization.Encoding.DER)
    document = loader.RFC5280CertificateDocumentLoader().load_der_document(der, path)
    results = validator.validate(document.root)
    text = report.ReportGeneratorJson(results, ValidationFindingSeverity.WARNING).generate()
    for result in json.loads(text)["results"]:
        for finding in result["finding_descriptions"]:
            if finding["code"] not in FALSE_FINDINGS:
                yield f"{finding['severity']} {finding['code']} at {result['node_path']}: {finding.get('message')}"


def openssl(case):
    """`openssl verify -x509_strict`, with the purposes that the shape is for."""
    purposes = {"leaf": ["sslserver", "sslclient"], "server": ["sslserver"]}.get(case["shape"], ["any"])
    for purpose in purposes:
        with tempfile.TemporaryDirectory() as directory:
            # -untrusted takes the intermediates; the file to verify holds the leaf alone, as
            # openssl reads only its first certificate.
            target = os.path.join(directory, "target.pem")
            with open(target, "wb") as file:
                file.write(first(case["chain"]))
            command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", purpose]
            command += ["-CAfile", case["roots"], "-no-CApath", "-no-CAstore", "-untrusted", case["chain"], target]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            yield f"-purpose {purpose}: {done.stdout.strip()} {done.stderr.strip()}"


def svid(case):
    """The SPIFFE library: the X.509-SVID's rules, and the bundle's."""
    with open(case["chain"], "rb") as chain, open(case["key"], "rb") as key, open(case["roots"], "rb") as roots:
        parsed = X509Svid.parse(chain.read(), key.read())
        wanted = SpiffeId(case["spiffe_id"])
        if parsed.spiffe_id != wanted:
            yield f"{parsed.spiffe_id} instead of {wanted}"
        if parsed.leaf.public_key() != parsed.private_key.public_key():
            yield "the key is not the certificate's"
        bundle = X509Bundle.parse(wanted.trust_domain, roots.read())
        if not bundle.x509_authorities:
            yield "no authority in the bundle"


def rust_webpki(case):
    """cryptography's path builder (Rust, its own code) with its web profile, for DNS names."""
    roots = x509.load_pem_x509_certificates(read(case["roots"]))
    chain = x509.load_pem_x509_certificates(read(case["chain"]))
    builder = verification.PolicyBuilder().store(verification.Store(roots))
    builder.build_server_verifier(x509.DNSName(case["dns"])).verify(chain[0], chain[1:])
    return ()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def first(path):
    return pem.parse_file(path)[0].as_bytes()


VERIFIERS = {
    "leaf": {"pkilint": lambda case: pkilint(case["chain"]), "openssl": openssl, "spiffe": svid},
    "server": {"pkilint": lambda case: pkilint(case["chain"]), "openssl": openssl, "cryptography": rust_webpki},
    "issuing": {"pkilint": lambda case: pkilint(case["chain"]), "openssl": openssl},
    "root": {"pkilint": lambda case: pkilint(case["chain"]), "openssl": openssl},
}


def main():
    findings = []
    cases = json.load(sys.stdin)
    for case in cases:
        for verifier, verify in VERIFIERS[case["shape"]].items():
            try:
                texts = list(verify(case))
            except Exception as error:  # a verifier that cannot parse it refuses it
                texts = [f"{type(error).__name__}: {error}"]
            findings += [f"{case['name']}: {verifier}: {text}" for text in texts]
    json.dump({"cases": len(cases), "findings": findings}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
