//! The upstream CA as cert-manager: an API server of ours that keeps CertificateRequests, with a controller
//! that decides them when they are read. The real one: `tests/k8s/cert_manager.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rootbridge::cluster::RawCluster;
use rootbridge::upstream::Answer;
use rootbridge_test_support::{TD, tls_server};
use serde_json::{Value, json};

use crate::contract::{At, Protocol, connect_in, contract, submission};
use crate::enterprise::{Behaviour, Enterprise, Said};

const COLLECTION: &str = "/apis/cert-manager.io/v1/namespaces/pki/certificaterequests";

pub struct CertManager;

type Objects = Arc<Mutex<BTreeMap<String, Value>>>;
type Server = State<(Arc<Enterprise>, Objects)>;

impl Protocol for CertManager {
    const WAITS: bool = true;
    const BUSY: bool = false;

    fn section(at: &At) -> String {
        let cluster = json!({
            "server": at.url, "certificate-authority": at.ca_file.display().to_string(),
        });
        // JSON is YAML.
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "east",
            "clusters": [{ "name": "east", "cluster": cluster }],
            "users": [{ "name": "mesh", "user": { "token": "a-token-of-the-test" } }],
            "contexts": [{ "name": "east", "context": { "cluster": "east", "user": "mesh" } }],
        });
        fs::write(at.directory.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        "kind = \"cert-manager\"\ncluster = \"east\"\nnamespace = \"pki\"\nissuer = \"corp-ca\"\n"
            .to_owned()
    }

    fn clusters(at: &At) -> BTreeMap<String, RawCluster> {
        let file = at.directory.join("kubeconfig");
        let text = format!(
            "trust_domain = \"{TD}\"\nkubeconfig = \"{}\"\n",
            file.display()
        );
        BTreeMap::from([("east".to_owned(), toml::from_str(&text).unwrap())])
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        api_server(ca, Objects::default())
    }
}

fn api_server(ca: Arc<Enterprise>, objects: Objects) -> Router {
    Router::new()
        .route(COLLECTION, post(create))
        .route(&format!("{COLLECTION}/{{name}}"), get(read))
        .with_state((ca, objects))
}

fn failure(code: u16, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
        "message": format!("the API server says {reason}"), "code": code,
    });
    (StatusCode::from_u16(code).unwrap(), Json(status)).into_response()
}

/// What is created has no status, whatever the client sends.
async fn create(
    State((ca, objects)): Server,
    headers: HeaderMap,
    Json(mut object): Json<Value>,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer a-token-of-the-test");
    assert_eq!(object["spec"]["isCA"], true);
    assert_eq!(object["spec"]["duration"], "2592000s");
    assert_eq!(object["spec"]["issuerRef"]["name"], "corp-ca");
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    if objects.lock().unwrap().contains_key(&name) {
        return failure(409, "AlreadyExists");
    }
    if let Said::Nothing = Arc::clone(&ca).ask(csr(&object), None).await {
        return failure(503, "ServiceUnavailable");
    }
    let uid = format!("uid-of-{name}");
    object["metadata"]["uid"] = uid.into();
    object["metadata"]["namespace"] = "pki".into();
    object["metadata"]["creationTimestamp"] = Timestamp::now().to_string().into();
    object["status"] = json!({});
    objects.lock().unwrap().insert(name, object.clone());
    (StatusCode::CREATED, Json(object)).into_response()
}

fn csr(object: &Value) -> String {
    let request = object["spec"]["request"].as_str().unwrap();
    String::from_utf8(STANDARD.decode(request).unwrap()).unwrap()
}

/// The issuer's controller decides what it has not decided yet.
async fn read(State((ca, objects)): Server, Path(name): Path<String>) -> Response {
    let Some(mut object) = objects.lock().unwrap().get(&name).cloned() else {
        return failure(404, "NotFound");
    };
    if object["status"]["conditions"].is_null() {
        let said = Arc::clone(&ca).ask(csr(&object), Some(name.clone())).await;
        let condition = |status: &str, reason: &str, message: &str| json!([{ "type": "Ready", "status": status, "reason": reason, "message": message }]);
        match said {
            Said::Issued(chain) => {
                object["status"]["conditions"] = condition("True", "Issued", "");
                object["status"]["certificate"] = STANDARD.encode(chain).into();
            }
            Said::Pending(_) => {}
            Said::Refused(why) => {
                object["status"]["conditions"] = condition("False", "Failed", &why);
            }
            Said::Forgotten => return failure(404, "NotFound"),
            Said::Nothing => return failure(503, "ServiceUnavailable"),
        }
        objects.lock().unwrap().insert(name, object.clone());
    }
    Json(object).into_response()
}

contract!(CertManager);

/// An object of the name that this server gives its own is not taken for its own, and one that was
/// decided long ago is not the answer to another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_the_answer_to_its_own_csr_and_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Enterprise::new(directory.path().join("enterprise"));
    let objects = Objects::default();
    let (port, pem) = tls_server::serve(api_server(Arc::clone(&ca), Arc::clone(&objects))).await;
    let at = At {
        directory: directory.path().to_owned(),
        url: format!("https://127.0.0.1:{port}"),
        ca_file: directory.path().join("tls.pem"),
    };
    fs::write(&at.ca_file, pem).unwrap();
    let upstream = connect_in(&CertManager::section(&at), CertManager::clusters(&at));
    let request = submission();
    ca.tell(Behaviour::Refuse("the board said no"));
    let sent = upstream.submit(&request).await;
    assert!(matches!(sent, Ok(Answer::Pending { .. })), "{sent:?}");
    let again = upstream.submit(&request).await;
    assert!(matches!(again, Ok(Answer::Refused(_))), "{again:?}");
    assert_eq!(objects.lock().unwrap().len(), 1, "the same object");

    let name = objects.lock().unwrap().keys().next().unwrap().clone();
    let change = |change: &dyn Fn(&mut Value)| {
        change(objects.lock().unwrap().get_mut(&name).unwrap());
    };
    let long_ago = Timestamp::now() - SignedDuration::from_hours(1);
    change(&|object| object["metadata"]["creationTimestamp"] = long_ago.to_string().into());
    let later = upstream.submit(&request).await;
    assert!(matches!(later, Ok(Answer::Pending { .. })), "{later:?}");
    let second = format!("{name}-2");
    assert!(objects.lock().unwrap().contains_key(&second));

    change(&|object| object["spec"]["request"] = STANDARD.encode("another's").into());
    let taken = upstream.submit(&request).await.unwrap_err();
    assert!(
        taken.reason.contains(&name) && taken.reason.contains("with another CSR"),
        "{taken:?}"
    );
    assert_eq!(objects.lock().unwrap().len(), 2);
}
