//! openssl's own server of CMP. Its one answer is made for the request at hand, so it is started for each.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use rootbridge::x509::{read_certificates, to_pem};
use rootbridge_test_support::openssl::public_key;
use rootbridge_test_support::process::Process;
use rootbridge_test_support::programs::listening;
use rootbridge_test_support::{PATIENCE, eventually};
use tokio::sync::Mutex;

use super::stand_in::{Message, at};
use crate::enterprise::{Enterprise, Said};

/// Hands each transaction to an openssl of its own.
#[derive(Clone)]
pub struct Server {
    ca: Arc<Enterprise>,
    /// Of `openssl cmp`.
    arguments: Arc<std::sync::Mutex<Vec<String>>>,
    running: Arc<Mutex<HashMap<Transaction, (Process, Url)>>>,
}

/// A transactionID.
type Transaction = Vec<u8>;
/// Of an openssl.
type Url = String;

impl Server {
    pub fn new(ca: &Arc<Enterprise>) -> Self {
        Self {
            ca: Arc::clone(ca),
            arguments: Arc::default(),
            running: Arc::default(),
        }
    }

    /// What the next ones are started with.
    pub fn with(&self, arguments: &[&str]) {
        let given = arguments.iter().map(|each| (*each).to_owned());
        *self.arguments.lock().unwrap() = given.collect();
    }

    pub fn router(&self) -> Router {
        Router::new()
            .route("/cmp/corp", post(forward))
            .with_state(self.clone())
    }

    async fn start(&self, message: &Message) -> (Process, Url) {
        let file = |name: &str, text: &str| -> PathBuf {
            let file = self.ca.file(name);
            fs::write(&file, text).unwrap();
            file
        };
        let mut command = Command::new("openssl");
        command.args(["cmp", "-port", "0", "-max_msgs", "8"]);
        command.args(&*self.arguments.lock().unwrap());
        // Any other message is answered without a certificate.
        let csr = match message.body.tag == at(4) {
            true => Some(to_pem("CERTIFICATE REQUEST", &message.body.contents)),
            false => None,
        };
        if let Some(csr) = csr {
            let Said::Issued(chain) = Arc::clone(&self.ca).ask(csr.clone(), None).await else {
                panic!("it is told to openssl what to answer");
            };
            let key = public_key(&self.ca.file("request.csr"), &csr);
            let chain = read_certificates(&chain).unwrap();
            let own = chain
                .iter()
                .find(|each| each.public_key().spki_der() == key);
            command
                .arg("-rsp_cert")
                .arg(file("new.pem", &own.unwrap().to_pem()));
            let above = self.ca.middle.pem() + &self.ca.root.pem();
            command
                .arg("-rsp_extracerts")
                .arg(file("above.pem", &above));
        } else {
            command.arg("-rsp_cert").arg(self.ca.root.pem_file());
        }
        let process = Process::start(&mut command, &self.ca.file("cmp.log"));
        let mut port = None;
        eventually(PATIENCE, "openssl listens", async || {
            port = listening(process.id().as_raw()).first().copied();
            port.is_some()
        })
        .await;
        (process, format!("http://127.0.0.1:{}/", port.unwrap()))
    }
}

async fn forward(State(server): State<Server>, bytes: Bytes) -> Response {
    let message = Message::parse(&bytes);
    let mut running = server.running.lock().await;
    let transaction = message.transaction();
    if !running.contains_key(&transaction) {
        // Waiting for it borrows what no handler may.
        let (own, runtime) = (server.clone(), tokio::runtime::Handle::current());
        let start = move || runtime.block_on(own.start(&message));
        let started = tokio::task::spawn_blocking(start).await.unwrap();
        running.insert(transaction.clone(), started);
    }
    let (_, url) = &running[&transaction];
    let request = reqwest::Client::new().post(url).body(bytes);
    // A connection that the client ends would end the transaction there.
    let request = request.header("connection", "close");
    let answer = request
        .header("content-type", "application/pkixcmp")
        .send()
        .await
        .unwrap();
    let bytes = answer.bytes().await.unwrap();
    ([("content-type", "application/pkixcmp")], bytes).into_response()
}
