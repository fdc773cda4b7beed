//! The bundles of other trust domains: fetched from their endpoints, checked, kept, and held apart.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};
use rootbridge::x509::Certificate;
use serde_json::json;

use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually, tls_server};

use super::sds::{contexts, one, open, setup, subscribe, token};

/// A status and a body, and how often it was asked.
type Answer = (StatusCode, String, u32);

/// What an endpoint answers at each path.
#[derive(Clone, Default)]
struct Endpoints(Arc<Mutex<BTreeMap<String, Answer>>>);

impl Endpoints {
    fn set(&self, name: &str, status: StatusCode, body: String) {
        let mut all = self.0.lock().unwrap();
        let asked = all.get(name).map_or(0, |(.., asked)| *asked);
        all.insert(name.to_owned(), (status, body, asked));
    }

    fn document(&self, name: &str, roots: &[&Certificate], sequence: u64) {
        let keys = roots.iter().map(
            |root| json!({"use": "x509-svid", "kty": "EC", "x5c": [STANDARD.encode(root.der())]}),
        );
        let document = json!({
            "keys": keys.collect::<Vec<_>>(),
            "spiffe_sequence": sequence,
            "spiffe_refresh_hint": 1,
        });
        self.set(name, StatusCode::OK, document.to_string());
    }

    fn asked(&self, name: &str) -> u32 {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .map_or(0, |(.., asked)| *asked)
    }
}

async fn answer(State(endpoints): State<Endpoints>, Path(name): Path<String>) -> Response {
    let mut all = endpoints.0.lock().unwrap();
    let Some((status, body, asked)) = all.get_mut(&name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    *asked += 1;
    match status.is_redirection() {
        true => (*status, [(LOCATION, body.clone())]).into_response(),
        false => (*status, body.clone()).into_response(),
    }
}

fn root(id: &str) -> Certificate {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .subject_alt_names
        .push(SanType::URI(id.try_into().unwrap()));
    let key = KeyPair::generate().unwrap();
    Certificate::parse(params.self_signed(&key).unwrap().der().to_vec()).unwrap()
}

fn domain(name: &str) -> String {
    format!("{name}.example")
}

async fn metric(server: &RunningServer, name: &str, labels: &str) -> Option<f64> {
    server
        .metric(&format!("rootbridge_federation_{name}{{{labels}}}"))
        .await
}

async fn anchors(server: &RunningServer, name: &str) -> Option<f64> {
    metric(server, "anchors", &format!("federation=\"{name}\"")).await
}

async fn fetches(server: &RunningServer, name: &str, result: &str) -> f64 {
    let labels = format!("federation=\"{name}\",result=\"{result}\"");
    metric(server, "fetches_total", &labels).await.unwrap()
}

async fn has_anchors(server: &RunningServer, name: &str, count: f64) {
    eventually(PATIENCE, name, async || {
        anchors(server, name).await == Some(count)
    })
    .await;
}

const FAULTS: [&str; 5] = ["shrinks", "goes-back", "foreign", "redirects", "long"];

fn federated(setup: &TestServer, port: u16, ca: &str) {
    fs::write(setup.path("endpoint.pem"), ca).unwrap();
    let section = |name: &str| {
        format!(
            "[federation.{name}]\ntrust_domain = \"{}\"\nurl = \"https://127.0.0.1:{port}/{name}\"\n\
             profile = \"https_web\"\nca_file = \"{}\"\n",
            domain(name),
            setup.path("endpoint.pem").display(),
        )
    };
    let sections = ["good"].iter().chain(&FAULTS).map(|name| section(name));
    let sections: String = sections.collect();
    setup.edit("[admin]\n", &format!("{sections}\n[admin]\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_of_others_are_followed_and_never_merged() {
    let endpoints = Endpoints::default();
    let router = Router::new()
        .route("/{name}", get(answer))
        .with_state(endpoints.clone());
    let (port, ca) = tls_server::serve(router).await;
    let setup = setup();
    federated(&setup, port, &ca);
    let roots: BTreeMap<_, _> = ["good"]
        .iter()
        .chain(&FAULTS)
        .map(|name| (*name, root(&format!("spiffe://{}", domain(name)))))
        .collect();
    for (name, root) in &roots {
        endpoints.document(name, &[root], 5);
    }
    let server = setup.serve().await;
    for name in roots.keys() {
        has_anchors(&server, name, 1.0).await;
    }

    // Each for its own names, and this server's own roots for its own alone.
    let client = server.client(TD).await;
    let mut stream = open(&client, &token(&setup)).await.unwrap();
    let named = format!("spiffe://{}", domain("good"));
    let names = ["ROOTCA", "ALL", named.as_str()];
    stream.send(subscribe(&names, None));
    let first = stream.answer().await.unwrap();
    let there = contexts(&first.resources);
    let own = setup.roots(TD);
    let mut every = one(TD, &own);
    every.extend(
        roots
            .iter()
            .map(|(name, root)| (domain(name), root.to_pem())),
    );
    assert_eq!(there["ALL"], every);
    assert_eq!(there["ROOTCA"], one("", &own));
    assert_eq!(there[&named], one(&domain("good"), &roots["good"].to_pem()));
    stream.send(subscribe(&names, Some(&first)));

    // A new root is pushed to who has subscribed.
    let newer = root("spiffe://good.example");
    endpoints.document("good", &[&roots["good"], &newer], 6);
    let second = stream.answer().await.unwrap();
    let both = roots["good"].to_pem() + &newer.to_pem();
    assert_eq!(
        contexts(&second.resources)[&named],
        one(&domain("good"), &both)
    );

    // What cannot be a next version is refused, and the last one stays.
    endpoints.document("shrinks", &[], 6);
    endpoints.document("goes-back", &[&roots["goes-back"]], 4);
    endpoints.document("foreign", &[&roots["foreign"], &newer], 6);
    let elsewhere = format!("https://127.0.0.1:{port}/elsewhere");
    endpoints.document("elsewhere", &[&roots["redirects"], &newer], 6);
    endpoints.set("redirects", StatusCode::FOUND, elsewhere);
    endpoints.set("long", StatusCode::OK, " ".repeat(3 * 1024 * 1024));
    for (name, result, says) in [
        ("shrinks", "refused", "it has no X.509 root at all"),
        ("goes-back", "refused", "its sequence went back from 5 to 4"),
        (
            "foreign",
            "refused",
            "has the ID spiffe://good.example, which is of another trust domain",
        ),
        ("redirects", "unreachable", "redirects are not followed"),
        ("long", "unreachable", "is longer than"),
    ] {
        eventually(PATIENCE, name, async || {
            fetches(&server, name, result).await > 0.0
        })
        .await;
        server.wait_for_log(says).await;
        assert_eq!(anchors(&server, name).await, Some(1.0), "{name}");
    }
    assert_eq!(endpoints.asked("elsewhere"), 0, "a redirect was followed");

    // And each goes on with the next good one.
    for name in FAULTS {
        endpoints.document(
            name,
            &[&roots[name], &root(&format!("spiffe://{}", domain(name)))],
            7,
        );
    }
    for name in FAULTS {
        has_anchors(&server, name, 2.0).await;
    }
    server.metrics_are_listed().await;
    server.stop().await;

    // After a start, without the endpoint: what was last taken, and how new that was.
    for name in roots.keys() {
        endpoints.set(name, StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    endpoints.document("goes-back", &[&roots["goes-back"]], 6);
    let server = setup.serve().await;
    for name in roots.keys() {
        has_anchors(&server, name, 2.0).await;
    }
    server
        .wait_for_log("its sequence went back from 7 to 6")
        .await;
    server.wait_for_log("answered 503").await;
    assert_eq!(fetches(&server, "good", "fetched").await, 0.0);
    server.stop().await;
}
