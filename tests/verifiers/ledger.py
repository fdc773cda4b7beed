#!/usr/bin/env python3
"""Holds a ledger against the invariants I1 to I4 and I6, with its own SQLite and its own parser.

    ledger.py LEDGER [WITNESS...]     findings and counts, as JSON
    ledger.py --anchors LEDGER        the active trust anchors, as PEM
    ledger.py --chains LEDGER         CA certificates with their paths: [[role, PEM], …]
    ledger.py --signed LEDGER         for each intent what a trace shows of it: the digest that the
                                      HSM signs, serial, signature, kind (1 leaf, 2 CA, 3 request)

WITNESS holds what clients got: JSON lines with `chain`, a PEM text with the leaf first.
"""

import collections
import hashlib
import json
import sqlite3
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

LEAF, CA, REQUEST = 1, 2, 3
STATES = {1: "issued", 2: "failed", 3: "unknown", None: "pending"}


def tlv(der, at=0):
    """Where the element at `at` has its content, and where it ends."""
    length, content = der[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        length, content = int.from_bytes(der[content : content + octets], "big"), content + octets
    return content, content + length


def wrap(tag, content):
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def assemble(tbs, signature):
    """The certificate of a TBSCertificate: the algorithm is the one that it names itself."""
    at, _ = tlv(tbs)
    if tbs[at] == 0xA0:  # version
        _, at = tlv(tbs, at)
    _, at = tlv(tbs, at)  # serialNumber
    _, end = tlv(tbs, at)
    return wrap(0x30, tbs + tbs[at:end] + wrap(0x03, b"\0" + signature))


def verify(key, algorithm, signature, message):
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(algorithm))
    elif isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, message, padding.PKCS1v15(), algorithm)
    else:
        raise InvalidSignature(f"a CA key of kind {type(key).__name__}")


def names(certificate):
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        name.value if isinstance(name, x509.UniformResourceIdentifier)
        else f"dns:{name.value}" if isinstance(name, x509.DNSName)
        else f"ip:{name.value}" if isinstance(name, x509.IPAddress)
        else f"?:{name!r}"
        for name in san
    ]


def rows(connection):
    connection.row_factory = sqlite3.Row
    return connection.execute(
        """SELECT intent.*, conclusion.state, conclusion.signature, conclusion.concluded_at,
                  issuer.public_key, issuer.key AS issuer_key, ca_certificate.not_after AS issuer_not_after
           FROM intent JOIN issuer ON issuer.id = intent.issuer
           LEFT JOIN conclusion ON conclusion.intent = intent.id
           LEFT JOIN ca_certificate ON ca_certificate.id = intent.ca_certificate
           ORDER BY intent.id"""
    )


def check_row(row):
    """I6, and that an issued row's signature is one over its TBS."""
    key = serialization.load_der_public_key(row["public_key"])
    if row["concluded_at"] is not None and row["concluded_at"] < row["recorded_at"]:
        yield "concluded before it was recorded"
    if row["kind"] == REQUEST:
        if row["signature"] is not None:
            try:
                digest = hashes.SHA384() if getattr(key, "key_size", 0) == 384 else hashes.SHA256()
                verify(key, digest, row["signature"], row["tbs"])
            except InvalidSignature:
                yield "the signature is not over the recorded request"
        return
    certificate = x509.load_der_x509_certificate(assemble(row["tbs"], row["signature"] or b"\0"))
    if row["signature"] is not None:
        try:
            verify(key, certificate.signature_hash_algorithm, row["signature"], row["tbs"])
        except InvalidSignature:
            yield "the signature is not the issuer's over the recorded TBS"
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    parsed = {
        "serial": certificate.serial_number,
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "spki_sha256": hashlib.sha256(spki).digest(),
    }
    stated = {name: row[name] for name in parsed} | {"serial": int.from_bytes(row["serial"], "big")}
    if row["kind"] == LEAF:
        parsed["subject"], stated["subject"] = " ".join(names(certificate)), row["subject"]
    for field, value in parsed.items():
        if stated[field] != value:
            yield f"{field}: the row says {stated[field]!r}, the certificate {value!r}"
    if row["issuer_not_after"] is not None and parsed["not_after"] > row["issuer_not_after"]:
        yield "outlives its issuer"


def judge_witness(path, by_tbs, serials, findings):
    """I1 from outside: whatever a client holds was recorded, as it is, and concluded as issued."""
    count = 0
    with open(path, encoding="ascii") as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # the witness itself was stopped in mid-write
            count += 1
            leaf = x509.load_pem_x509_certificate(json.loads(line)["chain"].encode())
            row = by_tbs.get(leaf.tbs_certificate_bytes)
            name = f"witness, serial {leaf.serial_number:x}"
            if row is None:
                findings.append(f"I1: {name}: no intent has this TBS")
            elif row["state"] != 1:
                findings.append(f"I4: {name}: released, but {STATES[row['state']]} in the ledger")
            elif row["signature"] != leaf.signature:
                findings.append(f"I3: {name}: another signature than the recorded one")
            if serials.setdefault(leaf.serial_number, leaf) != leaf:
                findings.append(f"I3: {name}: two certificates")
    return count


def signed(row):
    key = serialization.load_der_public_key(row["public_key"])
    digest = hashlib.sha384 if getattr(key, "key_size", 0) == 384 else hashlib.sha256
    return {
        "digest": digest(row["tbs"]).hexdigest(),
        "serial": (row["serial"] or b"").hex(),
        "signature": (row["signature"] or b"").hex(),
        "kind": row["kind"],
    }


def to_pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM).decode()


def show_anchors(connection):
    for (der,) in connection.execute("SELECT der FROM anchor WHERE state = 'active' ORDER BY id"):
        sys.stdout.write(to_pem(der))


def show_chains(connection):
    found = connection.execute(
        """SELECT ca_certificate.id, ca_certificate.der, issuer.role FROM ca_certificate
           JOIN issuer ON issuer.id = ca_certificate.issuer ORDER BY ca_certificate.id"""
    ).fetchall()
    path = "SELECT der FROM ca_path WHERE ca_certificate = ? ORDER BY position"
    chains = [
        (role, "".join(map(to_pem, [der] + [above for (above,) in connection.execute(path, (id,))])))
        for id, der, role in found
    ]
    json.dump(chains, sys.stdout)


SHOW = {
    "--anchors": show_anchors,
    "--chains": show_chains,
    "--signed": lambda connection: json.dump([signed(row) for row in rows(connection)], sys.stdout),
}


def main():
    if sys.argv[1].startswith("--"):
        connection = sqlite3.connect(f"file:{sys.argv[2]}?mode=ro", uri=True)
        SHOW[sys.argv[1]](connection)
        return
    connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    findings = [f"integrity: {text}" for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    findings += [f"foreign keys: {tuple(row)}" for row in connection.execute("PRAGMA foreign_key_check")]
    counts = collections.Counter({state: 0 for state in STATES.values()})
    by_tbs, by_serial = {}, {}
    for row in rows(connection):
        counts[STATES.get(row["state"], "other")] += 1
        findings += [f"I6: intent {row['id']}: {text}" for text in check_row(row)]
        by_tbs[row["tbs"]] = row
        if row["serial"] is not None:
            known = by_serial.setdefault((row["issuer"], row["serial"]), row["tbs"])
            if known is not row["tbs"]:
                findings.append(f"I2, I3: intent {row['id']}: its serial was used before")
    serials = {}
    witnessed = sum(judge_witness(path, by_tbs, serials, findings) for path in sys.argv[2:])
    json.dump({"counts": counts, "witnessed": witnessed, "findings": findings[:50]}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
