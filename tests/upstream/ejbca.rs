//! The upstream CA as EJBCA's REST interface: a stand-in written from its reference.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::contract::{At, Protocol, contract};
use crate::enterprise::{Enterprise, Said};

const PASSWORD: &str = "an-enrolment-code-of-the-test";

pub struct Ejbca;

type Server = State<Arc<(Arc<Enterprise>, Mutex<String>)>>;

impl Protocol for Ejbca {
    const WAITS: bool = true;

    fn section(at: &At) -> String {
        let file = at.directory.join("password");
        fs::write(&file, PASSWORD).unwrap();
        format!(
            "kind = \"ejbca\"\naddress = \"{}/ejbca/ejbca-rest-api\"\nca_file = \"{}\"\n\
             certificate_authority = \"Corp CA\"\ncertificate_profile = \"SUBCA\"\n\
             end_entity_profile = \"Mesh\"\npassword_file = \"{}\"\n",
            at.url,
            at.ca_file.display(),
            file.display()
        )
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        let base = "/ejbca/ejbca-rest-api/v1/certificate";
        Router::new()
            .route(&format!("{base}/pkcs10enroll"), post(enrol))
            .route(&format!("{base}/{{id}}/finalize"), post(finalize))
            .with_state(Arc::new((ca, Mutex::default())))
    }
}

async fn enrol(State(server): Server, Json(body): Json<Value>) -> Response {
    for (key, value) in [
        ("certificate_authority_name", "Corp CA"),
        ("certificate_profile_name", "SUBCA"),
        ("end_entity_profile_name", "Mesh"),
        ("username", "rootbridge-cluster.local"),
        ("password", PASSWORD),
    ] {
        assert_eq!(body[key], value, "{key}");
    }
    assert_eq!(body["include_chain"], true);
    let csr = body["certificate_request"].as_str().unwrap().to_owned();
    server.1.lock().unwrap().clone_from(&csr);
    answer(&server.0, csr, None).await
}

async fn finalize(
    State(server): Server,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    assert_eq!(id, "17");
    assert_eq!(body["password"], PASSWORD);
    let csr = server.1.lock().unwrap().clone();
    answer(&server.0, csr, Some(id)).await
}

async fn answer(ca: &Arc<Enterprise>, csr: String, reference: Option<String>) -> Response {
    let error = |code: u16, text: &str| {
        let body = Json(json!({ "error_code": code, "error_message": text }));
        (StatusCode::from_u16(code).unwrap(), body).into_response()
    };
    match Arc::clone(ca).ask(csr, reference).await {
        Said::Issued(bytes) => {
            let text = String::from_utf8(bytes).unwrap();
            let blocks = text.split("-----BEGIN CERTIFICATE-----\n").skip(1);
            let mut ders: Vec<String> = blocks
                .map(|block| block.split_once("-----END").unwrap().0.replace('\n', ""))
                .collect();
            // A proxy's page, or an answer without certificates.
            if ders.is_empty() {
                return (StatusCode::CREATED, text).into_response();
            }
            let first = ders.pop();
            let body = json!({
                "certificate": first,
                "serial_number": "1",
                "response_format": "DER",
                "certificate_chain": ders,
            });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Said::Pending(_) => error(202, "Waiting for approval of the request with ID 17"),
        Said::Refused(reason) => error(400, &reason),
        Said::Forgotten => error(404, "No such request"),
        Said::Nothing => error(503, "The CA is off line"),
    }
}

contract!(Ejbca);
