//! CA certificates that say something unusual, written octet by octet.

use crate::support::{SoftKey, extension, oid, tlv};

const AKI: &[u8] = b"\x55\x1d\x23";
const POLICIES: &[u8] = b"\x55\x1d\x20";
const AIA: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x01\x01";
const ECDSA: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";

/// The parts of a CA certificate.
pub(crate) struct Parts {
    serial: Vec<u8>,
    name: Vec<u8>,
    not_after: Vec<u8>,
    unique_id: Vec<u8>,
    key_id: Vec<u8>,
    extensions: Vec<(&'static str, Vec<u8>)>,
}

impl Parts {
    /// Of the key `key`, signed by `signer`.
    pub(crate) fn usual(signer: &SoftKey, key: &SoftKey) -> Self {
        let [above, id] = [signer, key].map(|key| key.public_key().key_id());
        Self {
            serial: vec![5],
            name: string(0x0c, b"Issuing"),
            not_after: tlv(0x17, &[b"491231235959Z"]),
            unique_id: Vec::new(),
            key_id: id.to_vec(),
            extensions: vec![
                (
                    "BC",
                    extension(oid::BASIC, true, b"\x30\x06\x01\x01\xff\x02\x01\x00"),
                ),
                ("KU", extension(oid::KEY_USAGE, true, b"\x03\x02\x01\x06")),
                ("SKI", extension(oid::SKI, false, &tlv(0x04, &[&id]))),
                (
                    "AKI",
                    extension(AKI, false, &tlv(0x30, &[&tlv(0x80, &[&above])])),
                ),
            ],
        }
    }

    fn set(&mut self, name: &'static str, value: Option<Vec<u8>>) {
        self.extensions.retain(|(known, _)| *known != name);
        self.extensions.extend(value.map(|value| (name, value)));
    }

    /// Below the CA `issuer` (a Name), which has the key `signer`.
    pub(crate) fn below(&self, issuer: &[u8], signer: &SoftKey, key: &SoftKey) -> Vec<u8> {
        let list: Vec<&[u8]> = self.extensions.iter().map(|(_, each)| &**each).collect();
        let validity = tlv(0x30, &[&tlv(0x17, &[b"250101000000Z"]), &self.not_after]);
        signer.seal(&tlv(
            0x30,
            &[
                &tlv(0xa0, &[b"\x02\x01\x02"]),
                &tlv(0x02, &[&self.serial]),
                ECDSA,
                issuer,
                &validity,
                &self.name,
                key.public_key().spki_der(),
                &self.unique_id,
                &tlv(0xa3, &[&tlv(0x30, &list)]),
            ],
        ))
    }

    pub(crate) fn rename(&mut self, tag: u8, name: &[u8]) {
        self.name = string(tag, name);
    }

    pub(crate) fn self_signed(&self, key: &SoftKey) -> Vec<u8> {
        self.below(&self.name, key, key)
    }

    /// An end entity's certificate below it.
    pub(crate) fn leaf(&self, key: &SoftKey) -> Vec<u8> {
        self.leaf_with(key, &[])
    }

    /// As strict verifiers want it.
    pub(crate) fn leaf_with_aki(&self, key: &SoftKey) -> Vec<u8> {
        let id = tlv(0x80, &[&self.key_id]);
        self.leaf_with(key, &extension(AKI, false, &tlv(0x30, &[&id])))
    }

    fn leaf_with(&self, key: &SoftKey, aki: &[u8]) -> Vec<u8> {
        let names = tlv(
            0x30,
            &[&tlv(0x86, &[b"spiffe://cluster.local/ns/shop/sa/web"])],
        );
        let list = [
            extension(oid::KEY_USAGE, true, b"\x03\x02\x07\x80"),
            extension(oid::SAN, true, &names),
        ];
        let times = [b"250101000000Z", b"491231235959Z"].map(|time| tlv(0x17, &[time]));
        key.seal(&tlv(
            0x30,
            &[
                &tlv(0xa0, &[b"\x02\x01\x02"]),
                &tlv(0x02, &[&[7]]),
                ECDSA,
                &self.name,
                &tlv(0x30, &[&times[0], &times[1]]),
                &tlv(0x30, &[]),
                SoftKey::p256().public_key().spki_der(),
                &tlv(0xa3, &[&tlv(0x30, &[&list[0], &list[1], aki])]),
            ],
        ))
    }
}

/// A Name with one commonName, of this string type.
pub(crate) fn string(tag: u8, value: &[u8]) -> Vec<u8> {
    let attribute = tlv(0x30, &[&tlv(0x06, &[b"\x55\x04\x03"]), &tlv(tag, &[value])]);
    tlv(0x30, &[&tlv(0x31, &[&attribute])])
}

pub(crate) type Change = (&'static str, fn(&mut Parts));

fn constraint(critical: bool, kind: u8, base: &[u8]) -> Option<Vec<u8>> {
    let subtree = tlv(0x30, &[&tlv(kind, &[base])]);
    let value = tlv(0x30, &[&tlv(0xa0, &[&subtree])]);
    Some(extension(oid::NAME_CONSTRAINTS, critical, &value))
}

/// Each alone and in pairs.
pub(crate) const CHANGES: &[Change] = &[
    ("serial 0", |p| p.serial = vec![0]),
    ("negative serial", |p| p.serial = vec![0x9e, 1]),
    ("serial of 20 octets", |p| p.serial = vec![0x61; 20]),
    ("serial with a redundant zero", |p| p.serial = vec![0, 5]),
    ("printable", |p| p.name = string(0x13, b"Issuing CA (1)")),
    ("printable _", |p| p.name = string(0x13, b"Issuing_CA")),
    ("UTF-8", |p| {
        p.name = string(0x0c, "Ausstellende Stelle Ä".as_bytes())
    }),
    ("bad UTF-8", |p| p.name = string(0x0c, b"a\xff")),
    ("IA5", |p| p.name = string(0x16, b"ca@example")),
    ("IA5 not ASCII", |p| p.name = string(0x16, b"a\xe9")),
    ("BMP", |p| p.name = string(0x1e, b"\0A\0B")),
    ("odd BMP", |p| p.name = string(0x1e, b"\0A\0")),
    ("BMP surrogate", |p| p.name = string(0x1e, b"\xd8\0\0A")),
    ("numeric with letters", |p| p.name = string(0x12, b"a1")),
    ("universal", |p| p.name = string(0x1c, b"\0\0\0A")),
    ("visible", |p| p.name = string(0x1a, b"A")),
    ("empty subject", |p| p.name = tlv(0x30, &[])),
    ("unique id", |p| p.unique_id = tlv(0x82, &[b"\0\x01"])),
    ("GeneralizedTime", |p| {
        p.not_after = tlv(0x18, &[b"20480101000000Z"])
    }),
    ("year 9999", |p| {
        p.not_after = tlv(0x18, &[b"99991231235959Z"])
    }),
    ("time with an offset", |p| {
        p.not_after = tlv(0x17, &[b"491231235959+0100"])
    }),
    ("time without seconds", |p| {
        p.not_after = tlv(0x17, &[b"4912312359Z"])
    }),
    ("BC not critical", |p| {
        p.set(
            "BC",
            Some(extension(oid::BASIC, false, b"\x30\x03\x01\x01\xff")),
        );
    }),
    ("no BC", |p| p.set("BC", None)),
    ("BC false", |p| {
        p.set("BC", Some(extension(oid::BASIC, true, b"\x30\x00")))
    }),
    ("no path length", |p| {
        p.set(
            "BC",
            Some(extension(oid::BASIC, true, b"\x30\x03\x01\x01\xff")),
        );
    }),
    ("negative path length", |p| {
        p.set(
            "BC",
            Some(extension(
                oid::BASIC,
                true,
                b"\x30\x06\x01\x01\xff\x02\x01\xff",
            )),
        );
    }),
    ("no KU", |p| p.set("KU", None)),
    ("KU not critical", |p| {
        p.set(
            "KU",
            Some(extension(oid::KEY_USAGE, false, b"\x03\x02\x01\x86")),
        );
    }),
    ("KU without keyCertSign", |p| {
        p.set(
            "KU",
            Some(extension(oid::KEY_USAGE, true, b"\x03\x02\x07\x80")),
        );
    }),
    ("no SKI", |p| p.set("SKI", None)),
    ("SKI critical", |p| {
        let ski = extension(oid::SKI, true, &tlv(0x04, &[&p.key_id]));
        p.set("SKI", Some(ski));
    }),
    ("no AKI", |p| p.set("AKI", None)),
    ("AKI critical", |p| {
        p.set("AKI", Some(extension(AKI, true, b"\x30\x00")))
    }),
    ("EKU server", |p| {
        let eku = tlv(0x30, &[&tlv(0x06, &[b"\x2b\x06\x01\x05\x05\x07\x03\x01"])]);
        p.set("EKU", Some(extension(oid::EKU, false, &eku)));
    }),
    ("EKU any", |p| {
        let eku = tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x25\x00"])]);
        p.set("EKU", Some(extension(oid::EKU, false, &eku)));
    }),
    ("policies", |p| {
        let any = tlv(0x30, &[&tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x20\x00"])])]);
        p.set("CP", Some(extension(POLICIES, false, &any)));
    }),
    ("policies critical", |p| {
        let any = tlv(0x30, &[&tlv(0x30, &[&tlv(0x06, &[b"\x55\x1d\x20\x00"])])]);
        p.set("CP", Some(extension(POLICIES, true, &any)));
    }),
    ("policies malformed", |p| {
        p.set("CP", Some(extension(POLICIES, false, b"\x30\x02\x05\x00")))
    }),
    ("AIA critical", |p| {
        let uri = tlv(0x86, &[b"http://ca.example/ca.cer"]);
        let method = tlv(0x06, &[b"\x2b\x06\x01\x05\x05\x07\x30\x02"]);
        let list = tlv(0x30, &[&tlv(0x30, &[&method, &uri])]);
        p.set("AIA", Some(extension(AIA, true, &list)));
    }),
    ("AIA malformed", |p| {
        p.set("AIA", Some(extension(AIA, false, b"\x05\x00")))
    }),
    ("unknown", |p| {
        p.set("X", Some(extension(b"\x2a\x03\x04", false, b"\x05\x00")))
    }),
    ("unknown critical", |p| {
        p.set("X", Some(extension(b"\x2a\x03\x04", true, b"\x05\x00")))
    }),
    ("twice", |p| {
        let ku = extension(oid::KEY_USAGE, true, b"\x03\x02\x01\x06");
        p.extensions.push(("KU 2", ku));
    }),
    ("NC DNS", |p| {
        p.set("NC", constraint(true, 0x82, b"corp.example"))
    }),
    ("NC bad DNS", |p| {
        p.set("NC", constraint(true, 0x82, b"corp..example"))
    }),
    ("NC bad mask", |p| {
        p.set("NC", constraint(true, 0x87, &[10, 0, 0, 0, 255, 0, 255, 0]))
    }),
    ("NC directory", |p| {
        p.set("NC", constraint(true, 0xa4, &tlv(0x30, &[])))
    }),
    ("NC URI", |p| {
        p.set("NC", constraint(true, 0x86, b"corp.example"))
    }),
    ("NC empty", |p| {
        p.set(
            "NC",
            Some(extension(oid::NAME_CONSTRAINTS, true, b"\x30\x00")),
        )
    }),
    ("SAN not ASCII", |p| {
        let san = tlv(0x30, &[&tlv(0x81, &[b"a\xe9@b.example"])]);
        p.set("SAN", Some(extension(oid::SAN, false, &san)));
    }),
    ("SAN short IP", |p| {
        let san = tlv(0x30, &[&tlv(0x87, &[&[1, 2, 3]])]);
        p.set("SAN", Some(extension(oid::SAN, false, &san)));
    }),
];
