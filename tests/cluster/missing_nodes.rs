//! Tokens of pods whose node is not, or no longer, an object.

use rootbridge_test_support::jwk::JwtKey;
use serde_json::json;

use crate::fake_api_server::FakeApiServer;
use crate::fixture::{ISSUER, claims};
use crate::offline::{ask, ready};

/// Kubernetes leaves out the UID of a node whose object is gone, which a virtual kubelet never has.
#[tokio::test]
async fn a_token_whose_node_object_is_gone_is_accepted() {
    let (fake, key) = (FakeApiServer::start(ISSUER).await, JwtKey::p256("one"));
    let fixture = ready(&fake, &key).await;
    for node in [
        json!({ "name": "n1" }),
        json!({ "name": "n1", "uid": "" }),
        json!({}),
    ] {
        let mut claims = claims();
        claims["kubernetes.io"]["node"] = node.clone();
        let (caller, asked) = ask(&fixture, &fake, &key.token(&claims)).await;
        let caller = caller.unwrap_or_else(|error| panic!("{node}: {error}"));
        assert!(!asked, "{node}");
        // The index knows where the pod runs.
        assert_eq!(caller.node.as_deref(), Some("n1"), "{node}");
    }
}
