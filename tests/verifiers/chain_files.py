"""What Python's cryptography makes of certificates and of files of certificates.

Reads a JSON document, {"certificates": [base64...], "files": [base64...]}, and prints
{"certificates": [error or ""...], "files": [[sha256...] or null...]}.
"""

import base64
import json
import sys
import warnings

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7

warnings.simplefilter("ignore")


def examine(der):
    try:
        certificate = x509.load_der_x509_certificate(der)
        list(certificate.extensions)
        certificate.subject, certificate.issuer
        certificate.not_valid_after_utc, certificate.public_key()
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"


READERS = [
    x509.load_pem_x509_certificates,
    lambda data: [x509.load_der_x509_certificate(data)],
    pkcs7.load_pem_pkcs7_certificates,
    pkcs7.load_der_pkcs7_certificates,
]


def read(data):
    for reader in READERS:
        try:
            return [each.fingerprint(hashes.SHA256()).hex() for each in reader(data)]
        except Exception:
            continue
    return None


given = json.load(sys.stdin)
decode = base64.b64decode
print(
    json.dumps(
        {
            "certificates": [examine(decode(each)) for each in given["certificates"]],
            "files": [read(decode(each)) for each in given["files"]],
        }
    )
)
