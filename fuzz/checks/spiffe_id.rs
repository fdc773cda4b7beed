//! A name: accepted exactly if the standard's grammar, implemented a second time here, permits it; never
//! changed; and read the same by a URL parser, which resolves and decodes.

use reqwest::Url;
use rootbridge::x509::{DnsName, San, SpiffeId, TrustDomain};

use super::{Outcome, assert_printable};

/// A text; one with a line break is a namespace and a service account.
pub fn check(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    let accepted = [
        trust_domain(text),
        spiffe_id(text),
        dns_name(text),
        san(text),
        service_account(text),
    ];
    Outcome::of(accepted.contains(&true))
}

fn all_of(text: &str, set: &str) -> bool {
    text.chars().all(|c| set.contains(c))
}

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// SPIFFE-ID §2.1.
fn is_trust_domain(text: &str) -> bool {
    (1..=255).contains(&text.len()) && all_of(text, &format!("{LOWER}.-_"))
}

/// SPIFFE-ID §2.2 and §2.3.
fn is_spiffe_id(text: &str) -> bool {
    let mut parts = text.split('/');
    let head = (parts.next(), parts.next(), parts.next());
    let (Some("spiffe:"), Some(""), Some(domain)) = head else {
        return false;
    };
    let segment = |part: &str| {
        !matches!(part, "" | "." | "..") && all_of(part, &format!("{LOWER}{UPPER}.-_"))
    };
    text.len() <= 2048 && is_trust_domain(domain) && parts.all(segment)
}

/// RFC 1123 §2.1, with Kubernetes' restrictions.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && all_of(text, &format!("{LOWER}-"))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn trust_domain(text: &str) -> bool {
    let parsed = TrustDomain::parse(text);
    assert_eq!(parsed.is_ok(), is_trust_domain(text), "{text:?}");
    match parsed {
        Ok(domain) => {
            assert_eq!(domain.as_str(), text);
            assert_eq!(domain.to_string().parse(), Ok(domain));
            true
        }
        Err(error) => {
            assert_printable(error);
            false
        }
    }
}

fn spiffe_id(text: &str) -> bool {
    let parsed = SpiffeId::parse(text);
    assert_eq!(parsed.is_ok(), is_spiffe_id(text), "{text:?}");
    let id = match parsed {
        Ok(id) => id,
        Err(error) => {
            assert_printable(error);
            return false;
        }
    };
    assert_eq!(id.as_str(), text);
    assert_eq!(text.parse().as_ref(), Ok(&id));
    assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
    assert!(id.in_domain(id.trust_domain()));
    let json = serde_json::to_string(&id).expect("a string");
    assert_eq!(serde_json::from_str::<SpiffeId>(&json).expect("itself"), id);
    // A verifier with a URL parser must see the same host and path, and nothing else.
    let url = Url::parse(text).expect("a SPIFFE ID is a URL");
    assert_eq!(url.as_str(), text);
    assert_eq!(url.host_str(), Some(id.trust_domain().as_str()));
    assert_eq!(url.path(), id.path());
    assert_eq!(
        (url.username(), url.password(), url.port()),
        ("", None, None)
    );
    assert_eq!((url.query(), url.fragment()), (None, None));
    true
}

fn dns_name(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let number = lower
        .rsplit('.')
        .next()
        .is_some_and(|last| all_of(last, "0123456789"));
    let fits = lower.len() <= 253 && lower.split('.').all(is_label) && !number;
    let parsed = DnsName::parse(text);
    assert_eq!(parsed.is_ok(), fits, "{text:?}");
    match parsed {
        Ok(name) => {
            assert_eq!(name.as_str(), lower);
            assert_eq!(name.to_string().parse(), Ok(name));
            true
        }
        Err(error) => {
            assert_printable(error);
            false
        }
    }
}

fn san(text: &str) -> bool {
    let name: San = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            assert_printable(error);
            return false;
        }
    };
    let shown = name.to_string();
    assert_eq!(shown.parse().as_ref(), Ok(&name));
    // Its type is explicit, and nothing in it could be a pattern or a list.
    let (kind, rest) = shown.split_once(':').expect("a kind");
    match (&name, kind) {
        (San::Spiffe(id), "spiffe") => assert_eq!(id.as_str(), text),
        (San::Dns(name), "dns") => assert_eq!(name.as_str(), rest),
        (San::Ip(address), "ip") => assert_eq!(rest.parse(), Ok(*address)),
        _ => panic!("{shown} is of another kind"),
    }
    assert!(all_of(rest, &format!("{LOWER}{UPPER}.-_:/")), "{shown}");
    true
}

fn service_account(text: &str) -> bool {
    let Some((namespace, account)) = text.split_once('\n') else {
        return false;
    };
    let domain = TrustDomain::parse("cluster.local").expect("a trust domain");
    let fits = is_label(namespace) && account.len() <= 253 && account.split('.').all(is_label);
    match SpiffeId::service_account(&domain, namespace, account) {
        Ok(id) => {
            assert!(fits, "{text:?}");
            assert_eq!(
                id.path().split('/').collect::<Vec<_>>(),
                ["", "ns", namespace, "sa", account]
            );
            assert_eq!(id.trust_domain(), &domain);
            assert!(is_spiffe_id(id.as_str()));
            true
        }
        Err(error) => {
            assert!(!fits, "{text:?}");
            assert_printable(error);
            false
        }
    }
}
