//! Writes one object, and classifies the API server's answer.

use std::time::Duration;

use kube::Resource as _;
use kube::core::params::PatchParams;
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use super::desired::observe;
use super::object_state::{FIELD_MANAGER, ObjectKey, Observed};
use super::target::TargetConfig;
use crate::cluster::{ApiError, Cluster};

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written(Observed),
    /// The namespace is terminating or deleted: not an error, and nothing to do.
    NamespaceGone,
    /// The API server refuses this object.
    Refused(String),
    /// The API server has an internal error or too many requests; with its Retry-After, if it sent
    /// one.
    Overloaded(String, Option<Duration>),
    Unreachable(String),
}

/// Applies the fields of `object` by server-side apply, taking them over from other managers.
pub(super) async fn write(
    cluster: &Cluster,
    target: &TargetConfig,
    resource: &ApiResource,
    key: &ObjectKey,
    mut object: Value,
) -> Outcome {
    let client = match cluster.connection().client().await {
        Ok(client) => client,
        Err(down) => return Outcome::Unreachable(down.why),
    };
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".to_owned(), resource.api_version.clone().into());
    }
    let path = DynamicObject::url_path(resource, key.as_deref());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = client.apply(&path, target.object(), &object, &params);
    match written.await {
        Ok(object) => Outcome::Written(observe(target, &object)),
        Err(error) => classify(&error, key.is_some()),
    }
}

fn classify(error: &ApiError, in_namespace: bool) -> Outcome {
    let why = error.to_string();
    let ApiError::Status(status) = error else {
        return Outcome::Unreachable(why);
    };
    let cause = |reason: &str| {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == reason)
    };
    match status.code {
        403 if cause("NamespaceTerminating") => Outcome::NamespaceGone,
        404 if in_namespace => Outcome::NamespaceGone,
        429 | 500.. => {
            let after = status
                .details
                .as_ref()
                .map(|details| details.retry_after_seconds);
            let after = after.filter(|secs| *secs > 0);
            Outcome::Overloaded(why, after.map(|secs| Duration::from_secs(secs.into())))
        }
        _ => Outcome::Refused(why),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn classified(status: Value) -> Outcome {
        let status = serde_json::from_value(status).unwrap();
        classify(&ApiError::Status(Box::new(status)), true)
    }

    #[test]
    fn answers_are_classified() {
        let terminating = json!({"code": 403, "reason": "Forbidden", "message": "being terminated",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]}});
        assert_eq!(classified(terminating), Outcome::NamespaceGone);
        let deleted = json!({"code": 404, "reason": "NotFound", "message": "no namespace"});
        assert_eq!(classified(deleted), Outcome::NamespaceGone);
        let denied = json!({"code": 403, "reason": "Forbidden", "message": "no"});
        assert_eq!(
            classified(denied),
            Outcome::Refused("the API server answers 403 Forbidden: no".to_owned())
        );
        for code in [409, 413, 422] {
            let status = json!({"code": code, "reason": "", "message": ""});
            assert!(matches!(classified(status), Outcome::Refused(_)), "{code}");
        }
        let busy = json!({"code": 429, "reason": "TooManyRequests", "message": "later",
            "details": {"retryAfterSeconds": 3}});
        let wait = Some(Duration::from_secs(3));
        assert!(matches!(classified(busy), Outcome::Overloaded(_, after) if after == wait));
        for code in [500, 503, 504] {
            let status = json!({"code": code, "reason": "", "message": ""});
            assert!(
                matches!(classified(status), Outcome::Overloaded(_, None)),
                "{code}"
            );
        }
    }
}
