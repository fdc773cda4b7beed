//! Files of certificates as CAs, browsers, editors and shells leave them.

use std::path::Path;

use rootbridge::x509::{
    Certificate, FileError, Format, KeyKind, private_key_problem, read_certificate_ders,
    read_certificates,
};

use crate::support::{Ca, CaTerms, openssl, tlv};

struct Files {
    home: tempfile::TempDir,
    two: [Certificate; 2],
}

impl Files {
    fn new() -> Self {
        let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, None));
        let issuing = root.below("Issuing", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
        let two = [issuing.certificate, root.certificate];
        let home = tempfile::tempdir().unwrap();
        let files = Self { home, two };
        files.write("both.pem", files.pem().as_bytes());
        files
    }

    fn pem(&self) -> String {
        self.two.iter().map(Certificate::to_pem).collect()
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn write(&self, name: &str, contents: &[u8]) {
        std::fs::write(self.path().join(name), contents).unwrap();
    }

    fn openssl(&self, command: &str) {
        let arguments: Vec<&str> = command.split(' ').collect();
        openssl(&arguments, self.path()).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }
}

fn format(file: &[u8]) -> Format {
    match read_certificates(file).unwrap_err() {
        FileError::Other { format, .. } => format,
        other => panic!("{other}"),
    }
}

fn utf16(text: &str, to_octets: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_octets).collect()
}

/// Every form of the same two certificates.
#[test]
fn one_chain_in_every_form() {
    let files = Files::new();
    let pem = files.pem();
    files.openssl("crl2pkcs7 -nocrl -certfile both.pem -out both.p7b");
    files.openssl("pkcs7 -in both.p7b -outform DER -out both.der.p7b");
    let p7b = files.read("both.p7b");
    let p7b_text = String::from_utf8(p7b.clone()).unwrap();
    let [first, second] = files.two.each_ref().map(|each| each.der().to_vec());
    let mark = |mut prefix: Vec<u8>, rest: Vec<u8>| {
        prefix.extend(rest);
        prefix
    };
    let indented: String = pem.lines().map(|line| format!("    {line}\n")).collect();
    let one_line = pem
        .replace('\n', " ")
        .replace("CERTIFICATE----- -", "CERTIFICATE-----\n-");
    let headed = format!("subject=CN = a\r\nBag Attributes\r\n{pem}\r\n# end\r\n");
    let latin = [b"# Autorit\xe9 racine\n", pem.as_bytes(), b"# fin\xe9\n"].concat();
    let commented = format!(
        "#-----BEGIN CERTIFICATE-----\n#AAAA\n#-----END CERTIFICATE-----\n# -----BEGIN CERTIFICATE-----\n{pem}"
    );
    let parts = files.two.each_ref().map(|each| each.to_pem());
    let joined = parts.each_ref().map(|part| part.trim_end()).concat();
    let marked_twice = format!("\u{feff}{}\u{feff}{}", parts[0], parts[1]);
    for (name, form) in [
        ("PEM", pem.clone().into_bytes()),
        ("CRLF", pem.replace('\n', "\r\n").into_bytes()),
        ("CR", pem.replace('\n', "\r").into_bytes()),
        (
            "a byte order mark",
            mark(vec![0xef, 0xbb, 0xbf], pem.clone().into_bytes()),
        ),
        ("two marks", marked_twice.into_bytes()),
        (
            "UTF-16 LE",
            mark(vec![0xff, 0xfe], utf16(&headed, u16::to_le_bytes)),
        ),
        (
            "UTF-16 BE",
            mark(vec![0xfe, 0xff], utf16(&headed, u16::to_be_bytes)),
        ),
        ("UTF-16 LE without a mark", utf16(&pem, u16::to_le_bytes)),
        ("UTF-16 BE without a mark", utf16(&pem, u16::to_be_bytes)),
        ("Latin-1 text", latin),
        ("text with line ends of Windows", headed.into_bytes()),
        ("indented", indented.into_bytes()),
        ("one line each", one_line.into_bytes()),
        ("no line break at the end of the first", joined.into_bytes()),
        ("an old certificate commented out", commented.into_bytes()),
        (
            "repetitions",
            format!("{pem}{pem}{}", parts[0]).into_bytes(),
        ),
        ("PKCS#7 in PEM", p7b.clone()),
        (
            "PKCS#7 labelled CMS",
            p7b_text.replace("PKCS7", "CMS").into_bytes(),
        ),
        // As ADCS's web pages write it.
        (
            "PKCS#7 labelled CERTIFICATE",
            p7b_text.replace("PKCS7", "CERTIFICATE").into_bytes(),
        ),
        ("PKCS#7 in DER", files.read("both.der.p7b")),
        (
            "PKCS#7 of indefinite length",
            indefinite(&[&first, &second]),
        ),
        ("PKCS#7 and PEM", [p7b.as_slice(), pem.as_bytes()].concat()),
        (
            "DER, one after the other",
            [first.clone(), second.clone()].concat(),
        ),
        (
            "DER and a line break",
            [first.clone(), second.clone(), b"\r\n".to_vec()].concat(),
        ),
    ] {
        let read = read_certificates(&form).unwrap_or_else(|error| panic!("{name}: {error}"));
        // A SET of PKCS#7 may be sorted by the tool that writes it.
        let (mut read, mut expected) = (read, files.two.to_vec());
        if name.starts_with("PKCS#7") {
            read.sort_by_key(|each| each.der().to_vec());
            expected.sort_by_key(|each| each.der().to_vec());
        }
        assert_eq!(read, expected, "{name}");
        assert_eq!(read_certificate_ders(&form).unwrap().len(), 2, "{name}");
    }
    assert_eq!(read_certificates(&second).unwrap(), files.two[1..]);
}

/// SignedData whose outer elements have no length, as streaming programs write it.
fn indefinite(certificates: &[&[u8]]) -> Vec<u8> {
    let open = |tag: u8, parts: &[&[u8]]| [&[tag, 0x80], &*parts.concat(), &[0, 0]].concat();
    let signed_data = tlv(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"]);
    let data = tlv(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"]);
    let contents = [
        tlv(0x02, &[&[1]]),
        tlv(0x31, &[]),
        tlv(0x30, &[&data]),
        open(0xa0, certificates),
        tlv(0x31, &[]),
    ];
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let explicit = open(0xa0, &[&open(0x30, &contents)]);
    open(0x30, &[&signed_data, &explicit])
}

/// What else people supply, each named with what converts it.
#[test]
fn other_formats_are_named() {
    let files = Files::new();
    for command in [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key",
        "pkey -in ec.key -outform DER -out ec.der",
        "pkey -in rsa.key -outform DER -out rsa.der",
        "ec -in ec.key -out ec.sec1.pem",
        "ec -in ec.key -outform DER -out ec.sec1.der",
        "rsa -in rsa.key -traditional -out rsa.pkcs1.pem",
        "rsa -in rsa.key -traditional -outform DER -out rsa.pkcs1.der",
        "pkcs8 -topk8 -in ec.key -out encrypted.pem -passout pass:x",
        "pkcs8 -topk8 -in ec.key -outform DER -out encrypted.der -passout pass:x",
        "ec -in ec.key -aes128 -passout pass:x -out encrypted.old.pem",
        "pkey -in ec.key -pubout -out public.pem",
        "pkey -in ec.key -pubout -outform DER -out public.der",
        "req -new -key ec.key -subj /CN=a -out request.pem",
        "req -new -key ec.key -subj /CN=a -outform DER -out request.der",
        "req -x509 -key ec.key -subj /CN=a -out own.pem",
        "pkcs12 -export -inkey ec.key -in own.pem -passout pass:x -out own.p12",
        "x509 -in own.pem -trustout -out trusted.pem",
        "x509 -in own.pem -noout -text -out text.txt",
        "ecparam -name prime256v1 -out parameters.pem",
        "req -x509 -key rsa.key -subj /CN=a -out rsa.pem",
        "smime -encrypt -binary -outform DER -in own.pem -out enveloped.p7m rsa.pem",
    ] {
        files.openssl(command);
    }
    files.write("index", b"");
    files.write(
        "ca.cnf",
        b"[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\n",
    );
    files
        .openssl("ca -gencrl -config ca.cnf -keyfile ec.key -cert own.pem -crldays 9 -out crl.pem");
    files.openssl("crl -in crl.pem -outform DER -out crl.der");
    let pem = files.pem();
    let one = files.two[0].to_pem();
    let body: String = one.lines().filter(|line| !line.contains("---")).collect();

    for (file, expected) in [
        ("ec.key", Format::PrivateKey),
        ("rsa.key", Format::PrivateKey),
        ("ec.der", Format::PrivateKey),
        ("rsa.der", Format::PrivateKey),
        ("ec.sec1.pem", Format::PrivateKey),
        ("ec.sec1.der", Format::PrivateKey),
        ("rsa.pkcs1.pem", Format::PrivateKey),
        ("rsa.pkcs1.der", Format::PrivateKey),
        ("encrypted.pem", Format::EncryptedPrivateKey),
        ("encrypted.der", Format::EncryptedPrivateKey),
        ("encrypted.old.pem", Format::EncryptedPrivateKey),
        ("public.pem", Format::PublicKey),
        ("public.der", Format::PublicKey),
        ("request.pem", Format::Request),
        ("request.der", Format::Request),
        ("own.p12", Format::Pkcs12),
        ("trusted.pem", Format::TrustedCertificate),
        ("text.txt", Format::CertificateAsText),
        ("parameters.pem", Format::Parameters),
        ("enveloped.p7m", Format::OtherPkcs7),
        ("crl.pem", Format::Crl),
        ("crl.der", Format::Crl),
    ] {
        let contents = files.read(file);
        assert_eq!(format(&contents), expected, "{file}");
        // A certificate beside it does not hide it.
        if file.ends_with(".pem") {
            let both = [pem.as_bytes(), &contents].concat();
            assert_eq!(format(&both), expected, "{file} after certificates");
            assert_eq!(read_certificate_ders(&both).unwrap().len(), 2, "{file}");
        }
    }
    for (contents, expected) in [
        (&b""[..], Format::Empty),
        (b"\xef\xbb\xbf\r\n", Format::Empty),
        (b"\xff\xfe", Format::Empty),
        (b"\xfe\xed\xfe\xed\0\0\0\x02", Format::JavaKeystore),
        (b"\0\0\0\0CERT\x20\0\0\0", Format::SerializedStore),
        (b"<!DOCTYPE html><title>Sign in</title>", Format::Html),
        (b"\n<html>", Format::Html),
        (b"{\"ca\":\"x\"}", Format::Json),
        (b"ssh-ed25519 AAAA a@b", Format::SshPublicKey),
        (b"---- BEGIN SSH2 PUBLIC KEY ----", Format::SshPublicKey),
        (b"PK\x03\x04", Format::Archive),
        (b"cacert: none", Format::Text),
        (b"\x80\x81\x82", Format::Binary),
        (body.as_bytes(), Format::BareBase64),
        (b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==", Format::Base64OfPem),
        (one.replace('\n', "\\n").as_bytes(), Format::EscapedPem),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            Format::SshPrivateKey,
        ),
        (
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQEN\n=aaaa\n-----END PGP PUBLIC KEY BLOCK-----\n",
            Format::Pgp,
        ),
    ] {
        assert_eq!(format(contents), expected, "{}", contents.escape_ascii());
    }
    // The command is in the message.
    let message = read_certificates(&files.read("own.p12"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("PKCS#12") && message.contains("openssl pkcs12 -in FILE -nokeys"));
    let message = read_certificates(&[pem.as_bytes(), &files.read("ec.key")].concat());
    let message = message.unwrap_err().to_string();
    let line = pem.lines().count() + 1;
    assert!(message.starts_with(&format!("line {line}: ")), "{message}");
    assert!(!message.contains("MIG"), "{message}");

    for (file, problem) in [
        ("ec.key", None),
        ("rsa.pkcs1.pem", None),
        ("ec.sec1.der", None),
        ("encrypted.pem", Some("passphrase")),
        ("encrypted.old.pem", Some("passphrase")),
        ("own.pem", Some("no private key")),
        ("own.p12", Some("PKCS#12")),
    ] {
        let found = private_key_problem(&files.read(file)).map(|error| error.to_string());
        match problem {
            None => assert_eq!(found, None, "{file}"),
            Some(word) => assert!(found.as_ref().unwrap().contains(word), "{file}: {found:?}"),
        }
    }
}

/// Damaged files are errors with a place, never a part of their certificates.
#[test]
fn damage_is_located() {
    let files = Files::new();
    let pem = files.pem();
    let fault = |file: &[u8]| read_certificates(file).unwrap_err().to_string();
    let second = pem.rfind("-----BEGIN").unwrap();
    let line = pem[..second].lines().count() + 1;
    let cut = &pem.as_bytes()[..pem.len() - 40];
    assert!(
        fault(cut).contains(&format!("line {line}: ")),
        "{}",
        fault(cut)
    );
    let stray = pem[..second].to_owned() + &pem[second..].replacen("\nM", "\n\u{a0}M", 1);
    let place = format!("line {}: ", line + 1);
    let message = fault(stray.as_bytes());
    assert!(
        message.contains(&place) && message.contains("octet c2"),
        "{message}"
    );
    let der = files.two[0].der();
    assert!(fault(&der[..der.len() - 1]).contains("not known"));
    let mut odd = der.to_vec();
    odd.extend(b"junk");
    assert!(fault(&odd).contains("not known"));
    let mut bad = der.to_vec();
    bad[4] = 0x31;
    let message = fault(
        &[
            pem.as_bytes(),
            rootbridge::x509::to_pem("CERTIFICATE", &bad).as_bytes(),
        ]
        .concat(),
    );
    assert!(message.contains("certificate 3 (line "), "{message}");
    let p7b = indefinite(&[]);
    assert!(fault(&p7b).contains("no certificate"), "{}", fault(&p7b));
}

/// A `.p7b` may hold attribute certificates and those of an old format too (RFC 5652 §10.2.2).
#[test]
fn pkcs7_with_certificates_of_other_kinds() {
    let files = Files::new();
    let [issuing, root] = &files.two;
    let data = tlv(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"]);
    let signed_data = tlv(0x06, &[b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"]);
    let attribute = tlv(0xa2, &[&tlv(0x30, &[&tlv(0x02, &[&[1]])])]);
    let extended = tlv(0xa0, &[&tlv(0x30, &[&tlv(0x02, &[&[0]])])]);
    let certificates = tlv(0xa0, &[&attribute, issuing.der(), &extended, root.der()]);
    let crls = tlv(0xa1, &[&tlv(0x30, &[])]);
    let (version, set) = (tlv(0x02, &[&[1]]), tlv(0x31, &[]));
    let content = tlv(0x30, &[&data]);
    let signed = tlv(
        0x30,
        &[&version, &set, &content, &certificates, &crls, &set],
    );
    let p7b = tlv(0x30, &[&signed_data, &tlv(0xa0, &[&signed])]);
    assert_eq!(read_certificates(&p7b).unwrap(), files.two);
}

#[test]
fn the_number_of_certificates_has_a_limit_and_repetitions_do_not_count() {
    // Taken for certificates until they are parsed.
    let one = |number: u16| {
        tlv(
            0x30,
            &[&tlv(0x30, &[]), &tlv(0x0c, &[&number.to_be_bytes()])],
        )
    };
    let file = |count: u16| (0..count).map(one).collect::<Vec<_>>().concat();
    let full = file(500);
    assert_eq!(read_certificate_ders(&full).unwrap().len(), 500);
    let repeated = [full, one(7), one(499)].concat();
    assert_eq!(read_certificate_ders(&repeated).unwrap().len(), 500);
    let error = read_certificate_ders(&file(501)).unwrap_err();
    assert_eq!(error, FileError::TooMany);
    assert!(error.to_string().contains("500 "), "{error}");

    let bytes = (2 << 20) + 1;
    let error = read_certificate_ders(&vec![b' '; bytes]).unwrap_err();
    assert_eq!(error, FileError::TooLarge { bytes });
}
