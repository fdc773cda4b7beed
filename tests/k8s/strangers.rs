//! Tokens of strangers, before a real API server.

use tonic::Code;

use super::callers::{Caller, ca, credential};
use super::objects::{namespace, node, pod, service_account, token_for};
use super::server::shared;
use rootbridge_test_support::grpc::refusal;
use rootbridge_test_support::jwk::b64;
use rootbridge_test_support::{PATIENCE, eventually};

/// A real API server hears of no token that can be refused here: after its keys are known, none of a
/// stranger's tokens becomes a TokenReview.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_tokens_are_not_reviewed() {
    let client = shared().client().await;
    let ns = "callers-strangers";
    namespace(&client, ns).await;
    service_account(&client, ns, "app").await;
    node(&client, ns).await;
    let app = pod(&client, ns, "app-0", "app", ns).await;
    let credential = credential(&client, ns).await;
    let setup = ca(
        &[("east", shared(), &credential, "")],
        "default_cluster = \"east\"",
    );
    let server = setup.serve().await;
    let caller = Caller::new(&server, ns, "app").await;
    let good = token_for(&client, (ns, "app"), "istio-ca", &app).await;
    let other = token_for(&client, (ns, "app"), "other", &app).await;
    let [header, claims, signature]: [&str; 3] =
        good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let (first, rest) = signature.split_at(1);
    let other_first = if first == "A" { "B" } else { "A" };
    let forged = format!("{header}.{claims}.{other_first}{rest}");
    let counted = async |verification: &str, result: &str| {
        let name = format!(
            "rootbridge_cluster_tokens_total{{cluster=\"east\",verification=\"{verification}\",result=\"{result}\"}}"
        );
        server.metric(&name).await.unwrap_or_default()
    };
    eventually(PATIENCE, "the API server's keys are known", async || {
        refusal(caller.ask(&forged, None).await, Code::Unauthenticated);
        counted("none", "rejected").await > 0.0
    })
    .await;
    let (reviewed, refused) = (
        counted("token_review", "rejected").await,
        counted("none", "rejected").await,
    );
    let none = b64(br#"{"alg":"none"}"#);
    let hmac = b64(br#"{"alg":"HS256"}"#);
    let strangers = [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{hmac}.{claims}.{signature}"),
        forged,
        other,
    ];
    for _ in 0..20 {
        for token in &strangers {
            refusal(caller.ask(token, None).await, Code::Unauthenticated);
        }
    }
    assert_eq!(counted("token_review", "rejected").await, reviewed);
    assert_eq!(counted("none", "rejected").await, refused + 100.0);
    caller.ask(&good, None).await.unwrap();
    assert_eq!(counted("token_review", "accepted").await, 1.0);
    setup.issuer.minted.lock().unwrap().push(good);
    server.stop().await;
}
