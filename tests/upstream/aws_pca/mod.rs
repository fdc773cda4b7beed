//! The upstream CA as AWS Private CA: a stand-in that answers as it is told, and moto, which verifies
//! signatures and policies.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rootbridge::upstream::Answer;
use rootbridge_test_support::command::run;
use rootbridge_test_support::files::{documented, repository};
use rootbridge_test_support::process::Process;
use rootbridge_test_support::{PATIENCE, TestServer, eventually};
use serde_json::{Value, json};

use crate::authority::{certify_and_serve, upstream_test};
use crate::contract::{At, Protocol, connect, contract, listen, submission};
use crate::enterprise::{Behaviour, Enterprise, Said};

const ARN: &str = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/1c4b";
const PYTHON: &str = "build/venv-aws/bin/python";

fn section(directory: &Path, url: &str, arn: &str, key: [&str; 2]) -> String {
    let file = directory.join("credentials");
    let [id, secret] = key;
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(&file, text).unwrap();
    format!(
        "kind = \"aws-pca\"\naddress = \"{url}\"\ncertificate_authority = \"{arn}\"\n\
         credentials = \"file\"\ncredentials_file = \"{}\"\n",
        file.display()
    )
}

struct StandIn;

impl Protocol for StandIn {
    const WAITS: bool = true;

    fn section(at: &At) -> String {
        let section = section(&at.directory, &at.url, ARN, ["AKIA1", "secret"]);
        format!("{section}ca_file = \"{}\"\n", at.ca_file.display())
    }

    fn router(ca: Arc<Enterprise>) -> Router {
        let issued = Arc::default();
        Router::new()
            .route("/", post(answer))
            .with_state(Service { ca, issued })
    }
}

#[derive(Clone)]
struct Service {
    ca: Arc<Enterprise>,
    /// Certificates by their ARN: what became of them is known when they are asked for.
    issued: Arc<Mutex<HashMap<String, String>>>,
}

fn failed(kind: &str, message: &str) -> Response {
    let body = json!({ "__type": format!("com.amazonaws.acmpca#{kind}"), "message": message });
    (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
}

async fn answer(State(service): State<Service>, headers: HeaderMap, body: String) -> Response {
    let authorization = headers["authorization"].to_str().unwrap();
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-target";
    assert!(authorization.contains(signed), "{authorization}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["CertificateAuthorityArn"], ARN);
    let arn = match headers["x-amz-target"].to_str().unwrap() {
        "ACMPrivateCA.DescribeCertificateAuthority" => {
            let algorithm = json!({ "SigningAlgorithm": "SHA256WITHECDSA" });
            let body = json!({ "CertificateAuthority": {
                "Status": "ACTIVE", "CertificateAuthorityConfiguration": algorithm,
            } });
            return axum::Json(body).into_response();
        }
        "ACMPrivateCA.IssueCertificate" => {
            assert_eq!(body["SigningAlgorithm"], "SHA256WITHECDSA");
            assert_eq!(body["Validity"], json!({ "Type": "DAYS", "Value": 30 }));
            let template = "arn:aws:acm-pca:::template/SubordinateCACertificate_PathLen0/V1";
            assert_eq!(body["TemplateArn"], template);
            let csr = STANDARD.decode(body["Csr"].as_str().unwrap()).unwrap();
            let csr = String::from_utf8(csr).unwrap();
            let token = body["IdempotencyToken"].as_str().unwrap();
            assert!((1..=36).contains(&token.len()), "{token}");
            let arn = format!("{ARN}/certificate/{token}");
            let mut issued = service.issued.lock().unwrap();
            issued.insert(arn.clone(), csr);
            arn
        }
        "ACMPrivateCA.GetCertificate" => {
            let arn = body["CertificateArn"].as_str().unwrap().to_owned();
            let csr = service.issued.lock().unwrap()[&arn].clone();
            return match Arc::clone(&service.ca).ask(csr, Some(arn)).await {
                Said::Issued(bytes) if bytes.starts_with(b"root first") => {
                    let text = String::from_utf8(bytes).unwrap();
                    let (above, own) = text.split_once("-- then").unwrap();
                    axum::Json(json!({ "Certificate": own, "CertificateChain": above }))
                        .into_response()
                }
                Said::Issued(bytes) => bytes.into_response(),
                Said::Pending(_) => failed("RequestInProgressException", "in progress"),
                Said::Refused(why) => failed("RequestFailedException", &why),
                Said::Forgotten => failed("ResourceNotFoundException", "which one?"),
                Said::Nothing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            };
        }
        other => panic!("{other}"),
    };
    match service.ca.told() {
        Behaviour::Refuse(why) => failed("MalformedCSRException", why),
        Behaviour::Down => failed("ThrottlingException", "later"),
        _ => axum::Json(json!({ "CertificateArn": arn })).into_response(),
    }
}

contract!(StandIn);

/// moto, what it has made, and its client of a service.
struct Moto {
    _process: Process,
    made: Value,
}

impl Moto {
    async fn start(directory: &Path) -> Self {
        let policy = documented("upstream-aws-pca.md", "json");
        let (policy_file, made) = (directory.join("policy.json"), directory.join("made.json"));
        fs::write(&policy_file, policy).unwrap();
        let python = repository(PYTHON);
        assert!(
            python.exists(),
            "{} is missing: make setup",
            python.display()
        );
        let mut command = Command::new(python);
        command.arg(repository("tests/upstream/aws_pca/server.py"));
        command.arg(policy_file).arg(&made);
        let process = Process::start(&mut command, &directory.join("moto.log"));
        eventually(PATIENCE, "moto is there", async || made.exists()).await;
        let made = serde_json::from_str(&fs::read_to_string(made).unwrap()).unwrap();
        Self {
            _process: process,
            made,
        }
    }

    fn text(&self, at: &str) -> &str {
        self.made.pointer(at).unwrap().as_str().unwrap()
    }

    fn key(&self, of: &str) -> [&str; 2] {
        [0, 1].map(|part| self.text(&format!("/{of}/{part}")))
    }
}

/// From `upstream test` to workloads' certificates, with the policy of the how-to; then with credentials
/// that are wrong.
#[tokio::test(flavor = "multi_thread")]
async fn moto_certifies_the_issuing_ca() {
    let setup = TestServer::bare();
    let directory = setup.path("aws");
    fs::create_dir_all(&directory).unwrap();
    let moto = Moto::start(&directory).await;
    let (url, arn, key) = (moto.text("/url"), moto.text("/arn"), moto.key("key"));
    let section_with = |key| section(&directory, url, arn, key);
    let section = section_with(key);
    let found = upstream_test(&setup, &section, "subject = \"Mesh CA\"");
    assert!(
        found.contains("accepts the credential of a file"),
        "{found}"
    );
    certify_and_serve(&setup, moto.text("/root"), "Mesh CA").await;

    let upstream = connect(&section);
    let request = submission();
    let pending = match upstream.submit(&request).await {
        Ok(Answer::Pending { reference, .. }) => reference,
        other => panic!("not pending: {other:?}"),
    };
    assert!(pending.starts_with(arn), "{pending}");
    let issued = upstream.poll(&request, &pending).await;
    assert!(matches!(issued, Ok(Answer::Issued(_))), "{issued:?}");
    // Other kinds' references are none of this CA's.
    let other = upstream.poll(&request, "case-17").await;
    assert_eq!(other, Ok(Answer::Forgotten));

    // Read again: another secret, and a user who may do nothing.
    let [id, secret] = key;
    for (key, says) in [
        ([id, "another"], "SignatureDoesNotMatch"),
        (moto.key("stranger"), "AccessDenied"),
    ] {
        section_with(key);
        for reason in [
            upstream.submit(&request).await.unwrap_err().reason,
            upstream.test().await.unwrap_err().reason,
        ] {
            assert!(reason.contains(says), "{reason}");
            assert!(!reason.contains(key[1]), "{reason}");
        }
    }
    // From elsewhere than a file, by the binary: it takes variables.
    let metadata = listen(metadata([id, secret])).await;
    let own = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let container = format!("{metadata}/container");
    let token = directory.join("container.token");
    fs::write(&token, "a-token-of-the-pod\n").unwrap();
    let token = token.display().to_string();
    let in_container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*container),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &*token),
    ];
    let on_instance = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata)];
    let of_account = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/rootbridge"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
    ];
    let sources: [(&str, &[(&str, &str)]); 4] = [
        ("environment", &own),
        ("container", &in_container),
        ("instance", &on_instance),
        ("web-identity", &of_account),
    ];
    for (source, variables) in sources {
        let config = fs::read_to_string(setup.config()).unwrap();
        let (before, _) = config.split_once("[upstream.corp]").unwrap();
        let mut section = format!(
            "[upstream.corp]\nkind = \"aws-pca\"\naddress = \"{url}\"\n\
             certificate_authority = \"{arn}\"\ncredentials = \"{source}\"\n"
        );
        if source == "web-identity" {
            section.push_str(&format!("sts_address = \"{metadata}/sts\"\n"));
        }
        let file = directory.join(format!("{source}.toml"));
        fs::write(&file, format!("{before}{section}")).unwrap();
        let arguments = ["upstream", "test", "corp"];
        let mut command = setup.command(&arguments);
        command.env("ROOTBRIDGE_CONFIG", &file);
        let missing = command.output().unwrap();
        assert!(!missing.status.success(), "{source} without its variables");
        command.envs(variables.iter().copied());
        let found = run(&mut command);
        assert!(
            found.contains("accepts the credential of"),
            "{source}: {found}"
        );
    }
}

/// The services for credentials, which give the user's.
fn metadata(key: [&str; 2]) -> Router {
    let [id, secret] = key.map(str::to_owned);
    let body = json!({ "AccessKeyId": id, "SecretAccessKey": secret }).to_string();
    let sts = format!(
        "<R><Credentials><AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         </Credentials></R>"
    );
    let in_container = body.clone();
    let with_token = |headers: &HeaderMap, name: &str, token: &str| match headers.get(name) {
        Some(given) if given == token => StatusCode::OK,
        _ => StatusCode::UNAUTHORIZED,
    };
    Router::new()
        .route(
            "/latest/api/token",
            put(|headers: HeaderMap| async move {
                assert!(headers.contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
                "a-session\n"
            }),
        )
        .route(
            "/latest/meta-data/iam/security-credentials/{*role}",
            get(
                move |UrlPath(role): UrlPath<String>, headers: HeaderMap| async move {
                    assert_eq!(role, "mesh-role");
                    let status = with_token(&headers, "x-aws-ec2-metadata-token", "a-session");
                    (status, body)
                },
            ),
        )
        .route(
            "/latest/meta-data/iam/security-credentials/",
            get(move |headers: HeaderMap| async move {
                let status = with_token(&headers, "x-aws-ec2-metadata-token", "a-session");
                (status, "mesh-role")
            }),
        )
        .route(
            "/container",
            get(move |headers: HeaderMap| async move {
                let status = with_token(&headers, "authorization", "a-token-of-the-pod");
                (status, in_container)
            }),
        )
        .route(
            "/sts",
            post(|form: String| async move {
                assert!(form.contains("Action=AssumeRoleWithWebIdentity"), "{form}");
                match form.contains("WebIdentityToken=a-token-of-the-pod") {
                    true => (StatusCode::OK, sts),
                    false => (StatusCode::FORBIDDEN, String::new()),
                }
            }),
        )
}
