//! The upstream CA as Active Directory's web enrolment pages: a stand-in with the pages' texts, which
//! another client of them accepts first.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use rootbridge::x509::read_certificates;
use rootbridge_test_support::command::run;
use rootbridge_test_support::tls_server;
use rootbridge_test_support::verifiers::ask_as_certsrv;
use serde_json::{Value, json};

use crate::contract::{At, Protocol, contract, submission};
use crate::enterprise::{Behaviour, Enterprise, Said};

const USER: &str = r"CORP\rootbridge";
const PASSWORD: &str = "a-password-of-the-test";

pub struct Adcs;

impl Protocol for Adcs {
    const WAITS: bool = true;
    // The pages do not tell a request that is not known from other errors.
    const FORGETS: bool = false;

    fn section(at: &At) -> String {
        let file = at.directory.join("password");
        fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        format!(
            "kind = \"adcs\"\naddress = \"{}/certsrv\"\nca_file = \"{}\"\nusername = '{USER}'\n\
             password_file = \"{}\"\ntemplate = \"MeshSubCA\"\n",
            at.url,
            at.ca_file.display(),
            file.display()
        )
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        Router::new()
            .route("/certsrv/", get(async || "Welcome"))
            .route("/certsrv/certfnsh.asp", post(submitted))
            .route("/certsrv/certnew.cer", get(looked_at))
            .route("/certsrv/certnew.p7b", get(chain))
            .route("/certsrv/certcarc.asp", get(async || "var nRenewals=0;"))
            .with_state(Arc::new(Pages {
                ca,
                csr: std::sync::Mutex::default(),
                issued: std::sync::Mutex::default(),
            }))
    }
}

struct Pages {
    ca: Arc<Enterprise>,
    /// Of the last request.
    csr: std::sync::Mutex<String>,
    issued: std::sync::Mutex<Vec<u8>>,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "ReqID")]
    id: String,
}

fn is_let_in(headers: &HeaderMap) -> bool {
    let both = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    headers["authorization"] == format!("Basic {both}").as_str()
}

async fn submitted(State(pages): State<Arc<Pages>>, headers: HeaderMap, body: String) -> Response {
    if !is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
    let fields: BTreeMap<String, String> = form.query_pairs().into_owned().collect();
    assert_eq!(fields["Mode"], "newreq");
    assert_eq!(
        fields["CertAttrib"].trim_end(),
        "CertificateTemplate:MeshSubCA"
    );
    let csr = fields["CertRequest"].clone();
    pages.csr.lock().unwrap().clone_from(&csr);
    match Arc::clone(&pages.ca).ask(csr, None).await {
        Said::Issued(bytes) => {
            *pages.issued.lock().unwrap() = bytes;
            Html("<A Href=\"certnew.cer?ReqID=17&amp;Enc=b64\">Download</A>".replace("&amp;", "&"))
                .into_response()
        }
        Said::Pending(_) => Html(
            "<Title>Certificate Pending</Title><P>Certificate Pending<P>Your Request Id is 17.",
        )
        .into_response(),
        Said::Refused(reason) => Html(format!(
            "<P>Certificate Request Denied<P>The disposition message is \"{reason}\"."
        ))
        .into_response(),
        Said::Forgotten | Said::Nothing => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn looked_at(
    State(pages): State<Arc<Pages>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    if !is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    assert_eq!(asked.id, "17");
    let disposition = |text: &str| {
        Html(format!(
            "<TR><TD>Disposition message:</TD>\t\t{text}\r\n</TR>"
        ))
        .into_response()
    };
    let issued = !pages.issued.lock().unwrap().is_empty();
    if issued {
        let certificate = pem_of(&pages.issued.lock().unwrap());
        return ([("content-type", "application/pkix-cert")], certificate).into_response();
    }
    let csr = pages.csr.lock().unwrap().clone();
    match Arc::clone(&pages.ca).ask(csr, Some(asked.id)).await {
        Said::Issued(bytes) => {
            let certificate = pem_of(&bytes);
            *pages.issued.lock().unwrap() = bytes;
            ([("content-type", "application/pkix-cert")], certificate).into_response()
        }
        Said::Pending(_) => disposition("Taken Under Submission"),
        Said::Refused(reason) => disposition(&format!("Denied by CORP\\admin: {reason}")),
        Said::Forgotten | Said::Nothing => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

async fn chain(
    State(pages): State<Arc<Pages>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    if !is_let_in(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let bytes = match asked.id.as_str() {
        "CACert" => (pages.ca.middle.pem() + &pages.ca.root.pem()).into_bytes(),
        "17" => std::mem::take(&mut *pages.issued.lock().unwrap()),
        other => panic!("{other}"),
    };
    let body = tokio::task::spawn_blocking(move || pkcs7(bytes));
    let kind = [("content-type", "application/x-pkcs7-certificates")];
    (kind, body.await.unwrap()).into_response()
}

/// The first certificate.
fn pem_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once("-----BEGIN").unwrap_or_default();
    format!(
        "-----BEGIN{}",
        rest.split_inclusive("END CERTIFICATE-----\n")
            .next()
            .unwrap()
    )
}

/// PKCS#7 of these certificates; what are none stay as they are.
fn pkcs7(bytes: Vec<u8>) -> Vec<u8> {
    if read_certificates(&bytes).is_err() {
        return bytes;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // openssl takes nothing between the certificates.
    let text = String::from_utf8(bytes).unwrap();
    let blocks = text
        .split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .map(|block| {
            let body = block.split_once("-----END").unwrap().0;
            format!("-----BEGIN CERTIFICATE-----{body}-----END CERTIFICATE-----\n")
        });
    fs::write(at("pem"), blocks.collect::<String>()).unwrap();
    let mut command = Command::new("openssl");
    command.args(["crl2pkcs7", "-nocrl", "-outform", "DER", "-certfile"]);
    run(command.arg(at("pem")).arg("-out").arg(at("p7b")));
    fs::read(at("p7b")).unwrap()
}

contract!(Adcs);

/// certsrv was written against the real pages.
#[tokio::test(flavor = "multi_thread")]
async fn another_client_finds_what_it_expects_in_these_pages() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Enterprise::new(directory.path().join("enterprise"));
    let (port, pem) = tls_server::serve(Adcs::router(Arc::clone(&ca))).await;
    let at = |name: &str| directory.path().join(name);
    fs::write(at("tls.pem"), pem).unwrap();
    fs::write(at("csr"), submission().csr_pem()).unwrap();
    let (server, roots) = (format!("127.0.0.1:{port}"), at("tls.pem"));
    let csr = at("csr").display().to_string();
    let ask = async |verb: &'static str, more: &str| -> Value {
        let (server, roots, more) = (server.clone(), roots.clone(), more.to_owned());
        let said = tokio::task::spawn_blocking(move || {
            let arguments = [
                &server,
                roots.to_str().unwrap(),
                USER,
                PASSWORD,
                verb,
                &more,
            ];
            ask_as_certsrv(&arguments)
        });
        serde_json::from_str(&said.await.unwrap()).unwrap()
    };
    ca.tell(Behaviour::Pending);
    assert_eq!(ask("request", &csr).await, json!({ "pending": "17" }));
    let waits = json!({ "not_retrieved": "Taken Under Submission" });
    assert_eq!(ask("existing", "17").await, waits);
    ca.tell(Behaviour::Refuse("the board said no"));
    assert_eq!(
        ask("request", &csr).await,
        json!({ "denied": "the board said no" })
    );
    ca.tell(Behaviour::Issue);
    let issued = ask("request", &csr).await;
    let issued = issued["issued"].as_str().unwrap().as_bytes();
    assert_eq!(read_certificates(issued).unwrap().len(), 1);
    let chain = ask("chain", "").await;
    let chain = STANDARD.decode(chain["chain"].as_str().unwrap()).unwrap();
    assert_eq!(read_certificates(&chain).unwrap().len(), 2);
}
