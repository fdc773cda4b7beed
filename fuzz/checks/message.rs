//! The bytes of a gRPC request, after one that names the service: refused with a short reason, or what it
//! asks for is within bounds and in the message.

use rootbridge::mesh::{Service, read_message};
use rootbridge::x509::San;

use super::{Outcome, assert_printable};

pub fn check(data: &[u8]) -> Outcome {
    let Some((service, bytes)) = data.split_first() else {
        return Outcome::Refused;
    };
    let service = match service {
        b'i' => Service::Istio,
        b'c' => Service::Certificates,
        b'l' => Service::Linkerd,
        _ => return Outcome::Refused,
    };
    let asked = match read_message(service, bytes) {
        None => return Outcome::Refused,
        Some(Err(error)) => {
            assert_printable(&error);
            return Outcome::Refused;
        }
        Some(Ok(asked)) => asked,
    };
    let again = read_message(service, bytes).expect("a message");
    assert_eq!(again.expect("again"), asked);
    let holds = |text: &str| {
        text.is_empty()
            || bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
    };
    assert!(asked.ttl.is_none_or(|ttl| !ttl.is_zero()));
    assert!(asked.names.len() <= 64);
    for name in &asked.names {
        let parsed: San = name.parse().expect("a name's own text");
        assert_eq!(&parsed.to_string(), name);
    }
    match service {
        Service::Istio => {
            assert!(asked.profile == "default" || holds(&asked.profile));
            let another = asked.impersonated.as_deref();
            assert!(another.is_none_or(|one| !one.is_empty() && holds(one)));
            assert!(another.is_none() || asked.profile == "default");
        }
        Service::Certificates => {
            assert!(holds(&asked.profile));
            if let Some(key) = &asked.idempotency_key {
                let own = key
                    .strip_prefix("cluster.local|")
                    .expect("the trust domain");
                assert!(own.len() <= 256 && !key.bytes().any(|byte| byte.is_ascii_control()));
            }
        }
        Service::Linkerd => {
            let identity = asked.impersonated.as_deref().expect("an identity");
            assert_eq!(asked.names, [format!("dns:{identity}")]);
        }
    }
    Outcome::Accepted
}
