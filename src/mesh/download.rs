//! Trust bundles by HTTPS, without a credential: `/v1/trust-bundles/{trust_domain}`.
//!
//! PEM unless the path ends in `.json` or `Accept` prefers `application/json`, which is the SPIFFE
//! bundle format. Strong validators (RFC 9110 §8.8.3), 304 and HEAD.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, StatusCode};

use crate::trust::{Bundles, PublishedBundle};
use crate::x509::TrustDomain;

/// The routes of the download.
pub(super) fn routes(bundles: Arc<Bundles>) -> Router {
    Router::new()
        .route("/v1/trust-bundles/{trust_domain}", get(download))
        .with_state(bundles)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Pem,
    SpiffeJson,
}

async fn download(
    State(bundles): State<Arc<Bundles>>,
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some((published, form)) = find(&bundles, &file, &headers) else {
        let why = "no bundle is published for this trust domain\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let (content_type, suffix, body) = match form {
        Form::Pem => ("application/x-pem-file", "pem", &published.pem),
        Form::SpiffeJson => ("application/json", "json", &published.spiffe_json),
    };
    // Two forms of one bundle are two representations: a strong validator tells them apart. The
    // sequence stands in the JSON, so it is part of what the tag vouches for.
    let tag = format!(
        "\"{}.{}.{suffix}\"",
        published.digest,
        published.bundle.sequence()
    );
    let shared = [
        (ETAG, tag.clone()),
        (VARY, "accept".to_owned()),
        (CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if holds(&headers, &tag) {
        return (StatusCode::NOT_MODIFIED, shared).into_response();
    }
    (shared, [(CONTENT_TYPE, content_type)], body.clone()).into_response()
}

/// A trust domain may itself end in `.json`: the whole name is looked up first.
fn find(
    bundles: &Bundles,
    file: &str,
    headers: &HeaderMap,
) -> Option<(Arc<PublishedBundle>, Form)> {
    let published = |name: &str| bundles.current(&TrustDomain::parse(name).ok()?);
    if let Some(found) = published(file) {
        return Some((found, accepted(headers)));
    }
    let (name, form) = match (file.strip_suffix(".pem"), file.strip_suffix(".json")) {
        (Some(name), _) => (name, Form::Pem),
        (_, Some(name)) => (name, Form::SpiffeJson),
        _ => return None,
    };
    published(name).map(|found| (found, form))
}

/// JSON where the client ranks it above PEM; PEM otherwise.
fn accepted(headers: &HeaderMap) -> Form {
    let (mut json, mut pem) = (0.0, 0.0);
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality = parts
            .find_map(|part| part.strip_prefix("q="))
            .map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match media.as_str() {
            "application/json" => json = quality,
            "application/x-pem-file" | "application/pem-certificate-chain" => pem = quality,
            "*/*" | "application/*" if pem == 0.0 => pem = quality,
            _ => {}
        }
    }
    if json > 0.0 && json >= pem {
        Form::SpiffeJson
    } else {
        Form::Pem
    }
}

fn holds(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|held| {
            // If-None-Match compares weakly (RFC 9110 §13.1.2).
            held == "*" || held.strip_prefix("W/").unwrap_or(held) == tag
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn accept(value: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        accepted(&headers)
    }

    #[test]
    fn pem_unless_json_is_preferred() {
        assert_eq!(accepted(&HeaderMap::new()), Form::Pem);
        assert_eq!(accept("*/*"), Form::Pem);
        assert_eq!(accept("application/json"), Form::SpiffeJson);
        assert_eq!(accept("application/json, */*;q=0.1"), Form::SpiffeJson);
        assert_eq!(
            accept("application/json;q=0.2, application/x-pem-file"),
            Form::Pem
        );
        assert_eq!(accept("text/html"), Form::Pem);
    }

    #[test]
    fn validators_are_compared_as_a_list() {
        let mut headers = HeaderMap::new();
        assert!(!holds(&headers, "\"a\""));
        headers.insert(IF_NONE_MATCH, "\"b\", W/\"a\"".parse().unwrap());
        assert!(holds(&headers, "\"a\""));
        assert!(!holds(&headers, "\"c\""));
        headers.insert(IF_NONE_MATCH, "*".parse().unwrap());
        assert!(holds(&headers, "\"c\""));
    }
}
