#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::super::token_info::{LibraryInfo, TokenInfo};
use super::{Pkcs11Uri, UriClass, UriError};

fn parse(text: &str) -> Result<Pkcs11Uri, UriError> {
    text.parse()
}

/// A token that carries this label and serial number.
fn info(label: &str, serial: &str) -> TokenInfo {
    TokenInfo {
        label: label.into(),
        serial: serial.into(),
        manufacturer: "Snake Oil, Inc.".into(),
        model: "1.0".into(),
        slot_description: "Sun Metaslot".into(),
        library: LibraryInfo {
            manufacturer: "Snake Oil, Inc.".into(),
            description: "Soft Token Library".into(),
            version: (1, 23),
        },
        slot: 7,
        ..TokenInfo::default()
    }
}

/// The examples of RFC 7512 §3, what they name, and what they do not.
#[test]
fn the_examples_of_the_rfc() {
    let softtoken = info("The Software PKCS#11 Softtoken", "");
    let all = parse("pkcs11:").unwrap();
    assert!(all.matches_token(&softtoken) && !all.names_a_token() && !all.names_an_object());

    let public = parse("pkcs11:object=my-pubkey;type=public").unwrap();
    assert_eq!(public.class(), Some(UriClass::Public));
    assert!(!public.matches_private_key(b"", "my-pubkey"));

    let key = parse("pkcs11:object=my-key;type=private?pin-source=file:/etc/token").unwrap();
    assert!(key.matches_private_key(b"\x01", "my-key") && !key.matches_private_key(b"", "My-key"));
    assert_eq!(key.pin_source(), Some(Path::new("/etc/token")));

    let certificate = parse(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;\
         model=1.0;object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=\
         ?pin-source=file:/etc/token_pin",
    )
    .unwrap();
    assert!(certificate.matches_token(&softtoken));
    assert!(!certificate.matches_token(&info("The Software PKCS#11 Softtoken", "1")));
    assert_eq!(
        certificate.id.as_deref(),
        Some(&b"\x69\x95\x3e\x5c\xf4\xbd\xec\x91"[..])
    );

    let name = parse("pkcs11:object=my-sign-key;type=private?module-name=mypkcs11").unwrap();
    for (path, allowed) in [
        ("/usr/lib/libmypkcs11.so.1", true),
        ("/usr/lib/mypkcs11.so", true),
        ("/usr/lib/libmypkcs11-other.so", false),
    ] {
        assert_eq!(name.allows_module(Path::new(path)), allowed, "{path}");
    }
    let path = parse("pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1");
    assert!(
        path.as_ref()
            .unwrap()
            .allows_module(Path::new("/mnt/libmypkcs11.so.1"))
    );
    assert!(
        !path
            .unwrap()
            .allows_module(Path::new("/opt/libmypkcs11.so.1"))
    );

    let pin = "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin";
    let error = parse(pin).unwrap_err();
    assert_eq!(error, UriError::PinValue);
    assert!(!error.to_string().contains("the-pin"), "{error}");

    let slot = parse("pkcs11:slot-description=Sun%20Metaslot").unwrap();
    assert!(slot.matches_token(&softtoken) && slot.names_a_token());

    let library = "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23";
    assert!(parse(library).unwrap().matches_token(&softtoken));

    let percent = parse(
        "pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
    )
    .unwrap();
    assert_eq!(percent.token.as_deref(), Some("My token% created by Joe"));
    assert_eq!(percent.library_version, Some((3, 0)));
    assert_eq!(
        percent.id.as_deref(),
        Some(&b"\x01\x02\x03\xba\xdd\xca\xfe\x04\x05\x06"[..])
    );

    let semicolon = parse(
        "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert",
    );
    assert_eq!(
        semicolon.unwrap().token.as_deref(),
        Some("A name with a substring %;")
    );
    let acute = parse(
        "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert",
    );
    assert_eq!(
        acute.unwrap().token.as_deref(),
        Some("Name with a small A with acute: á")
    );

    let vendor = parse(
        "pkcs11:token=my-token;object=my-certificate;type=cert;x-vend-aaa=value-a\
         ?pin-source=file:/etc/token_pin&x-vend-bbb=value-b",
    )
    .unwrap();
    assert_eq!(vendor.unrecognized(), ["x-vend-aaa"]);
    assert!(
        !vendor.matches_token(&info("my-token", "")),
        "it names nothing"
    );
}

#[test]
fn each_bad_uri_is_refused_for_its_reason() {
    let duplicate = |name: &str| UriError::Duplicate { name: name.into() };
    let encoding = |name: &str| UriError::PercentEncoding { name: name.into() };
    let character = |name: &str, character, encoded: &str| UriError::Character {
        name: name.into(),
        character,
        encoded: encoded.into(),
    };
    for (text, expected) in [
        ("", UriError::Scheme),
        ("token=a", UriError::Scheme),
        ("pkcs12:token=a", UriError::Scheme),
        ("pkcs11:token", UriError::NoValue),
        ("pkcs11:=a", UriError::NoValue),
        ("pkcs11:token=a;", UriError::NoValue),
        ("pkcs11:;token=a", UriError::NoValue),
        ("pkcs11:tok%65n=a", UriError::NoValue),
        ("pkcs11:token=a?", UriError::NoValue),
        ("pkcs11:token=a;token=a", duplicate("token")),
        ("pkcs11:x-a=1;x-a=2", duplicate("x-a")),
        (
            "pkcs11:?module-name=a&module-name=b",
            duplicate("module-name"),
        ),
        ("pkcs11:token=100%", encoding("token")),
        ("pkcs11:token=%4", encoding("token")),
        ("pkcs11:token=%+1", encoding("token")),
        ("pkcs11:token=%á", encoding("token")),
        ("pkcs11:token=a b", character("token", ' ', "%20")),
        ("pkcs11:token=a/b", character("token", '/', "%2F")),
        ("pkcs11:token=a#b", character("token", '#', "%23")),
        ("pkcs11:object=ä", character("object", 'ä', "%C3%A4")),
        ("pkcs11:token=a\n", character("token", '\n', "%0A")),
        (
            "pkcs11:token=%FF",
            UriError::NotUtf8 {
                name: "token".into(),
            },
        ),
        ("pkcs11:type=key", UriError::Class),
        ("pkcs11:type=Private", UriError::Class),
        ("pkcs11:library-version=1.2.3", UriError::LibraryVersion),
        ("pkcs11:library-version=256", UriError::LibraryVersion),
        ("pkcs11:library-version=", UriError::LibraryVersion),
        ("pkcs11:slot-id=+1", UriError::SlotId),
        ("pkcs11:slot-id=", UriError::SlotId),
        ("pkcs11:slot-id=99999999999999999999", UriError::SlotId),
        ("pkcs11:token=a b?pin-value=1234", UriError::PinValue),
        ("pkcs11:pin-value=1234", UriError::PinValue),
        ("pkcs11:?pin-source=|/bin/cat%20pin", UriError::PinProgram),
        ("pkcs11:?pin-source=pin", UriError::PinSource),
        ("pkcs11:?pin-source=file:pin", UriError::PinSource),
        ("pkcs11:?pin-source=file://host/pin", UriError::PinSource),
        ("pkcs11:?pin-source=https://host/pin", UriError::PinSource),
        ("pkcs11:?pin-source=", UriError::PinSource),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn the_forms_of_a_pin_source() {
    for (value, file) in [
        ("file:/run/pin", "/run/pin"),
        ("FILE:/run/pin", "/run/pin"),
        ("file:///run/pin", "/run/pin"),
        ("file://localhost/run/pin", "/run/pin"),
        ("/run/pin", "/run/pin"),
        ("file:/run/my%2520pin", "/run/my pin"),
        ("/run/my%20pin", "/run/my pin"),
    ] {
        let uri = parse(&format!("PKCS11:token=a?pin-source={value}")).unwrap();
        assert_eq!(uri.pin_source(), Some(Path::new(file)), "{value}");
    }
    // What a query holds that is not known is ignored, also twice (RFC 7512 §2.3).
    parse("pkcs11:token=a?x-vend=1&x-vend=2").unwrap();
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(pkcs11:)?[ -~á]{0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn the_uri_of_a_key_names_that_key(
        label in "\\PC{0,32}", serial in "[ -~]{0,16}", object in "\\PC{0,20}",
        id in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let token = info(&label, &serial);
        let uri = parse(&Pkcs11Uri::of_private_key(&token, &id, &object)).unwrap();
        prop_assert!(uri.matches_token(&token));
        prop_assert!(uri.matches_private_key(&id, &object));
        let other = info(&format!("{label}x"), &serial);
        prop_assert!(!uri.matches_token(&other));
    }
}
