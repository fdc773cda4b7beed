"""AWS as moto serves it: a private CA, a user and a role with the policy of the how-to, and every call authorized.

moto's own CAs know no template for subordinate CAs and issue at once; these do, and take a moment. Its policies
know no resource of these calls; here it is the CA. Conditions of policies are not evaluated.
Arguments: the policy, and the file to write what was made to."""

import json
import os
import re
import sys
from threading import Thread

import boto3
from cryptography import x509
from moto import settings
from moto.acmpca import models
from moto.acmpca.exceptions import RequestInProgressException
from moto.iam.access_control import IAMRequestBase
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

extensions = models.CertificateAuthority._x509_extensions
get_certificate = models.ACMPCABackend.get_certificate
permitted = IAMRequestBase.check_action_permitted
asked = set()


def with_subordinates(self, csr, template):
    match = re.fullmatch(r"arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen([0-3])/V1", template or "")
    if not match:
        return extensions(self, csr, template)
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
              "decipher_only")
    usage = dict.fromkeys(others, False)
    return [
        (x509.BasicConstraints(ca=True, path_length=int(match[1])), True),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), True),
        (x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
    ]


def later(self, certificate_authority_arn, certificate_arn):
    if certificate_arn not in asked:
        asked.add(certificate_arn)
        raise RequestInProgressException("The request to issue a certificate is in progress.")
    return get_certificate(self, certificate_authority_arn, certificate_arn)


def of_authority(self, resource):
    if self._service == "acm-pca":
        resource = json.loads(self._body)["CertificateAuthorityArn"]
    return permitted(self, resource)


models.CertificateAuthority._x509_extensions = with_subordinates
IAMRequestBase.check_action_permitted = of_authority

server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
thread = Thread(target=server.serve_forever)
thread.start()
url = f"http://127.0.0.1:{server.server_port}"


def client(service):
    return boto3.client(service, endpoint_url=url, region_name="eu-west-1", aws_access_key_id="setup",
                        aws_secret_access_key="setup")


pca = client("acm-pca")
arn = pca.create_certificate_authority(
    CertificateAuthorityConfiguration={
        "KeyAlgorithm": "RSA_2048",
        "SigningAlgorithm": "SHA256WITHRSA",
        "Subject": {"CommonName": "Corp Root"},
    },
    CertificateAuthorityType="ROOT",
)["CertificateAuthorityArn"]
csr = pca.get_certificate_authority_csr(CertificateAuthorityArn=arn)["Csr"]
issued = pca.issue_certificate(
    CertificateAuthorityArn=arn,
    Csr=csr.encode(),
    SigningAlgorithm="SHA256WITHRSA",
    TemplateArn="arn:aws:acm-pca:::template/RootCACertificate/V1",
    Validity={"Value": 3650, "Type": "DAYS"},
)["CertificateArn"]
root = pca.get_certificate(CertificateAuthorityArn=arn, CertificateArn=issued)["Certificate"]
pca.import_certificate_authority_certificate(CertificateAuthorityArn=arn, Certificate=root.encode())

iam = client("iam")
policy = open(sys.argv[1]).read().replace("CA_ARN", arn)
iam.create_user(UserName="rootbridge")
iam.put_user_policy(UserName="rootbridge", PolicyName="rootbridge", PolicyDocument=policy)
key = iam.create_access_key(UserName="rootbridge")["AccessKey"]
iam.create_user(UserName="stranger")
stranger = iam.create_access_key(UserName="stranger")["AccessKey"]

models.ACMPCABackend.get_certificate = later
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
made = {
    "url": url,
    "arn": arn,
    "root": root,
    "key": [key["AccessKeyId"], key["SecretAccessKey"]],
    "stranger": [stranger["AccessKeyId"], stranger["SecretAccessKey"]],
}
with open(f"{sys.argv[2]}.unfinished", "w") as file:
    json.dump(made, file)
os.rename(f"{sys.argv[2]}.unfinished", sys.argv[2])
thread.join()
