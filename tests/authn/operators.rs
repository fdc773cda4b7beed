//! Operators' credentials.

use std::os::unix::fs::PermissionsExt as _;

use rootbridge::authn::{
    AuthnError, CredentialError, Identity, Method, OPERATOR_PREFIX, Operators, create_credential,
    read_credential,
};
use rootbridge_test_support::{PATIENCE, eventually};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use crate::support::parse;

struct Fixture {
    dir: TempDir,
    operators: Operators,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let toml: String = ["anna", "bert"]
            .map(|name| {
                let path = dir.path().join(name);
                format!("[operators.{name}]\ntrust_domain = \"cluster.local\"\ncredential_file = {path:?}\n")
            })
            .concat();
        Self {
            operators: Operators::new(&parse(&toml)),
            dir,
        }
    }

    fn create(&self, name: &str) -> String {
        let path = self.dir.path().join(name);
        create_credential(&path).unwrap();
        read_credential(&path).unwrap().expose_secret().to_owned()
    }

    async fn who(&self, token: &str, allowed: &[&str]) -> Result<String, AuthnError> {
        let allowed: Vec<_> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let caller = self.operators.authenticate(token, &allowed).await;
        if let Err(why) = &caller {
            assert!(!why.to_string().contains(token) || token.len() < 3, "{why}");
        }
        let caller = caller?;
        assert_eq!(
            (caller.method, caller.token_authenticated_at),
            (Method::Operator, None)
        );
        match caller.identity {
            Identity::Operator(name) => Ok(name),
            other => panic!("{other}"),
        }
    }
}

fn rejected<T>(answer: &Result<T, AuthnError>) -> bool {
    matches!(answer, Err(AuthnError::Rejected { .. }))
}

#[tokio::test]
async fn each_credential_is_one_operators() {
    let fixture = Fixture::new();
    let (anna, bert) = (fixture.create("anna"), fixture.create("bert"));
    assert_ne!(anna, bert);
    assert!(anna.starts_with(OPERATOR_PREFIX) && Operators::is_operator_token(&anna));
    assert_eq!(fixture.who(&anna, &["anna", "bert"]).await.unwrap(), "anna");
    assert_eq!(fixture.who(&bert, &["anna", "bert"]).await.unwrap(), "bert");
    assert!(rejected(&fixture.who(&bert, &["anna"]).await));
    assert!(rejected(&fixture.who(&bert, &[]).await));
    for odd in [
        String::new(),
        OPERATOR_PREFIX.to_owned(),
        anna.replace(OPERATOR_PREFIX, ""),
        anna[..anna.len() - 1].to_owned(),
        format!("{anna}A"),
        format!("{anna}\n"),
        format!(" {anna}"),
        anna.to_uppercase(),
        format!("{OPERATOR_PREFIX}{}", "A".repeat(43)),
        format!("{OPERATOR_PREFIX}{}", "A".repeat(100_000)),
    ] {
        assert!(
            rejected(&fixture.who(&odd, &["anna", "bert"]).await),
            "{odd}"
        );
    }
}

#[tokio::test]
async fn a_replaced_file_counts_and_a_missing_one_authenticates_no_one() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("anna");
    let old = fixture.create("anna");
    assert!(fixture.who(&old, &["anna"]).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    let new = fixture.create("anna");
    eventually(PATIENCE, "the new file is read", async || {
        rejected(&fixture.who(&old, &["anna"]).await)
    })
    .await;
    assert!(fixture.who(&new, &["anna"]).await.is_ok());

    for content in [
        "",
        "\n",
        "rb_op_short",
        "no credential",
        &"x".repeat(2000),
        &format!("{new}\n{old}\n"),
    ] {
        std::fs::write(&path, format!("{new}\n")).unwrap();
        eventually(PATIENCE, "a valid file", async || {
            fixture.who(&new, &["anna"]).await.is_ok()
        })
        .await;
        std::fs::write(&path, content).unwrap();
        eventually(PATIENCE, content, async || {
            fixture.who(&new, &["anna"]).await.is_err()
        })
        .await;
        for token in [&old, &new] {
            let answer = fixture.who(token, &["anna"]).await;
            let Err(AuthnError::Unavailable(why)) = answer else {
                panic!("{content}: {answer:?}")
            };
            assert!(why.contains("anna") && !why.contains(&new), "{why}");
        }
    }
    std::fs::write(&path, &new).unwrap();
    eventually(PATIENCE, "a valid file", async || {
        fixture.who(&new, &["anna"]).await.is_ok()
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    eventually(PATIENCE, "no file", async || {
        let answer = fixture.who(&new, &["anna"]).await;
        assert!(!rejected(&answer), "{answer:?}");
        matches!(answer, Err(AuthnError::Unavailable(_)))
    })
    .await;
    // Another's broken file is not in the way of him whose file is whole.
    let bert = fixture.create("bert");
    assert_eq!(fixture.who(&bert, &["anna", "bert"]).await.unwrap(), "bert");
    std::fs::write(&path, format!("  {new}\r\n")).unwrap();
    eventually(PATIENCE, "the file again", async || {
        fixture.who(&new, &["anna"]).await.is_ok()
    })
    .await;
}

#[test]
fn a_new_credential_is_readable_by_its_owner_alone_and_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    create_credential(&path).unwrap();
    let token = read_credential(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!format!("{token:?}").contains(token.expose_secret()));
    assert!(matches!(
        create_credential(&path),
        Err(CredentialError::Create { .. })
    ));
    assert_eq!(
        read_credential(&path).unwrap().expose_secret(),
        token.expose_secret()
    );
    assert!(matches!(
        read_credential(&dir.path().join("none")),
        Err(CredentialError::Read { .. })
    ));
    assert!(matches!(
        create_credential(&dir.path().join("no/token")),
        Err(CredentialError::Create { .. })
    ));
}

/// White space around it is no part of it, up to the size of the file.
#[test]
fn a_file_is_read_up_to_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    create_credential(&path).unwrap();
    let token = read_credential(&path).unwrap();
    let token = token.expose_secret();
    assert!(Operators::is_operator_token(token));
    for other in ["", "rb_o", "x.y.z", &token[1..]] {
        assert!(!Operators::is_operator_token(other), "{other}");
    }
    for (length, is_read) in [(1024, true), (1025, false), (4096, false)] {
        let blanks = " ".repeat(length - token.len());
        std::fs::write(&path, format!("{token}{blanks}")).unwrap();
        match (is_read, read_credential(&path)) {
            (true, Ok(read)) => assert_eq!(read.expose_secret(), token),
            (false, Err(CredentialError::Content { .. })) => {}
            (_, other) => panic!("{length}: {:?}", other.map(drop)),
        }
    }
}
