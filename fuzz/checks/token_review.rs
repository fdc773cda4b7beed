//! The answer to a TokenReview: nothing but an answer that says so accepts a token, the subject is the
//! answer's, and no error repeats the token.

use rootbridge::authn::AuthnError;
use rootbridge::cluster::evaluate_review;
use serde_json::Value;

use super::{Outcome, assert_printable};

const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ0aGUgdG9rZW4ifQ.c2lnbmF0dXJl";
const AUDIENCE: &str = "istio-ca";

pub fn check(data: &[u8]) -> Outcome {
    let subject = match evaluate_review(data, TOKEN, AUDIENCE) {
        Ok(subject) => subject,
        Err(error) => {
            assert!(matches!(
                error,
                AuthnError::Rejected { .. } | AuthnError::Unavailable(_)
            ));
            assert!(!error.to_string().contains(TOKEN));
            assert_printable(error);
            return Outcome::Refused;
        }
    };
    let answer: Value = serde_json::from_slice(data).expect("JSON");
    assert_eq!(answer["kind"], "TokenReview");
    let status = &answer["status"];
    assert_eq!(status["authenticated"], true);
    let audiences = status["audiences"].as_array().expect("audiences");
    assert!(audiences.iter().any(|one| one == AUDIENCE));
    let named = format!(
        "system:serviceaccount:{}:{}",
        subject.namespace, subject.account
    );
    assert_eq!(status["user"]["username"], named.as_str());
    assert!(!subject.namespace.contains(':') && !subject.account.contains(':'));
    let extra = |key: &str| {
        let values = status["user"]["extra"][format!("authentication.kubernetes.io/{key}")].clone();
        values[0].as_str().map(str::to_owned)
    };
    let pod = subject.pod.as_ref();
    assert_eq!(pod.map(|pod| pod.name.clone()), extra("pod-name"));
    assert_eq!(pod.map(|pod| pod.uid.clone()), extra("pod-uid"));
    assert!(pod.is_none_or(|pod| pod.namespace == subject.namespace));
    match pod {
        Some(_) => assert_eq!(subject.node, extra("node-name")),
        None => assert_eq!(subject.node, None),
    }
    Outcome::Accepted
}
