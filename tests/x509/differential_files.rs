//! Files of certificates read by Go, Python's `cryptography` and us.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::x509::{KeyKind, read_certificates};
use rootbridge_test_support::random::SplitMix64;
use serde_json::{Value, json};

use crate::differential::{Random, variants};
use crate::support::{Ca, CaTerms};
use crate::verifiers::{go, python};

/// Files of two certificates with random text, line ends, repetitions and damage.
#[test]
fn a_file_that_all_read_is_read() {
    let root = Ca::root("Root", CaTerms::usual(KeyKind::EcdsaP256, None));
    let below = root.below("Issuing", CaTerms::usual(KeyKind::EcdsaP256, Some(0)));
    let blocks = [below.certificate.to_pem(), root.certificate.to_pem()];
    let between: [&[u8]; 9] = [
        b"",
        b"\n",
        b"# comment\n",
        b"Ra\xedz\n",
        b"subject=CN = a\r\nissuer=CN = b\r\n",
        b"-----\n",
        b"\xef\xbb\xbf",
        b"a: b\n\n",
        b" \t\n",
    ];
    let mut random = Random(SplitMix64(14));
    // Whether a block was damaged, and the file.
    let files: Vec<(bool, Vec<u8>)> = (0..variants(400))
        .map(|_| {
            let mut file = Vec::new();
            let mut damaged = false;
            for _ in 0..1 + random.below(4) {
                file.extend(between[random.below(between.len())]);
                let mut block = blocks[random.below(2)].clone().into_bytes();
                match random.below(12) {
                    0 => block.retain(|octet| *octet != b'\n'),
                    1 => {
                        block = String::from_utf8(block)
                            .unwrap()
                            .replace('\n', "\r\n")
                            .into()
                    }
                    2 => drop(block.pop()),
                    3 => {
                        damaged = true;
                        let at = random.below(block.len());
                        block[at] = b"\x00 =A*\n"[random.below(6)];
                    }
                    4 => {
                        damaged = true;
                        let at = random.below(block.len());
                        block.truncate(at);
                    }
                    _ => {}
                }
                file.extend(block);
            }
            file.extend(between[random.below(between.len())]);
            (damaged, file)
        })
        .collect();
    let encoded: Vec<String> = files
        .iter()
        .map(|(_, file)| STANDARD.encode(file))
        .collect();
    let of_go = go(&json!({ "paths": [], "files": encoded }));
    let of_python = python(&json!({ "certificates": [], "files": encoded }));
    let mut read = 0;
    for (index, (damaged, file)) in files.iter().enumerate() {
        let set = |value: &Value| -> Option<BTreeSet<String>> {
            let list = value["files"][index].as_array()?;
            Some(
                list.iter()
                    .map(|each| each.as_str().unwrap().to_owned())
                    .collect(),
            )
        };
        let (Some(one), Some(other)) = (set(&of_go), set(&of_python)) else {
            continue;
        };
        if one != other {
            continue;
        }
        let shown = file.escape_ascii();
        let ours = match read_certificates(file) {
            Ok(ours) => ours,
            // Others skip a damaged block without a word.
            Err(error) if *damaged => {
                assert!(error.to_string().contains("line "), "{error}: {shown}");
                continue;
            }
            Err(error) => panic!("{error}: {shown}"),
        };
        let ours: BTreeSet<String> = ours
            .iter()
            .map(|each| rootbridge::digest::hex(&each.fingerprint()))
            .collect();
        assert!(one.is_subset(&ours), "{shown}");
        read += 1;
    }
    assert!(read > files.len() / 4, "{read}");
}
