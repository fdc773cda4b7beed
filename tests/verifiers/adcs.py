#!/usr/bin/env python3
"""Talks to web enrolment pages as a client that was written against the real ones (certsrv).

    adcs.py SERVER CA_FILE USER PASSWORD request CSR    what became of a new request
    adcs.py SERVER CA_FILE USER PASSWORD existing ID    what became of one before
    adcs.py SERVER CA_FILE USER PASSWORD chain          the CA's own certificates

It prints one object of JSON with one key: issued, pending, denied, not_retrieved, chain.
"""

import base64
import json
import sys

import certsrv

server, ca_file, user, password, verb, *rest = sys.argv[1:]
client = certsrv.Certsrv(server, user, password, cafile=ca_file, timeout=120)
# Roots and proxies of this machine's own are not for this server.
client.session.trust_env = False
assert client.check_credentials()
try:
    if verb == "request":
        with open(rest[0], encoding="ascii") as file:
            certificate = client.get_cert(file.read(), "MeshSubCA")
        said = {"issued": certificate.decode()}
    elif verb == "existing":
        said = {"issued": client.get_existing_cert(rest[0]).decode()}
    else:
        said = {"chain": base64.b64encode(client.get_chain()).decode()}
except certsrv.CertificatePendingException as error:
    said = {"pending": str(error.req_id)}
except certsrv.RequestDeniedException as error:
    said = {"denied": str(error)}
except certsrv.CouldNotRetrieveCertificateException as error:
    said = {"not_retrieved": str(error)}
print(json.dumps(said))
