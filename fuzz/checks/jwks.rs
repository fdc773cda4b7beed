//! A key set: refused with a short reason, or it has as many usable keys as at most it has members, all of
//! kinds that sign tokens.

use std::sync::{LazyLock, Mutex};

use rootbridge::authn::{Config, RawAudiences, RawConfig, RawJwtConfig, SubjectForm, read_keys};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::scratch::Scratch;
use super::{Outcome, assert_printable};

struct Setup {
    runtime: Runtime,
    config: Config,
    file: Scratch,
}

static SETUP: LazyLock<Mutex<Setup>> = LazyLock::new(|| {
    let file = Scratch::new(b"");
    let raw = RawJwtConfig {
        issuer: "https://issuer.example".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        subject: SubjectForm::Opaque,
        audiences: RawAudiences {
            istio: Some("istio-ca".to_owned()),
            certificates: None,
            linkerd: None,
            vault: None,
            sds: None,
            admin: None,
        },
        cluster: None,
        jwks_file: Some(file.path()),
        jwks_url: None,
        jwks_ca_file: None,
        jwks_token_file: None,
        refresh: None,
        keep: None,
        leeway: None,
    };
    let raw = RawConfig {
        jwt: [("ci".to_owned(), raw)].into(),
        ..RawConfig::default()
    };
    Mutex::new(Setup {
        runtime: Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime"),
        config: Config::try_from(raw).expect("a configuration"),
        file,
    })
});

pub fn check(data: &[u8]) -> Outcome {
    let mut setup = SETUP
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    setup.file.set(data);
    let issuer = setup.config.jwt().get("ci").expect("its issuer");
    let read = || setup.runtime.block_on(read_keys(issuer));
    let first = read();
    assert_eq!(first, read());
    match first {
        Ok(count) => {
            let start = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
            if let Ok(set) = serde_json::from_slice::<Value>(start) {
                let members = set["keys"].as_array().expect("keys");
                let signs =
                    |member: &&Value| matches!(member["kty"].as_str(), Some("RSA" | "EC" | "OKP"));
                let most = members.iter().filter(signs).count();
                assert!((1..=most).contains(&count), "{count} of {most}");
                assert!(members.len() <= 256);
            }
            Outcome::Accepted
        }
        Err(why) => {
            assert_printable(why);
            Outcome::Refused
        }
    }
}
