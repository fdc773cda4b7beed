//! Tells what BoringSSL makes of certification paths. It reads a JSON document and prints one;
//! tests/x509/verifiers.rs calls it.
//!
//! Read: `paths`, each an end entity's certificate, its issuers and the trust anchor, in DER and base64.
//! Printed: `verify`, why a path is refused for a server or for a client, as in Envoy's handshakes; empty
//! where it is accepted.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boring::error::ErrorStack;
use boring::stack::Stack;
use boring::x509::store::X509StoreBuilder;
use boring::x509::{X509, X509StoreContext};
use boring_sys::{X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER, X509_STORE_CTX_set_purpose};
use foreign_types::ForeignTypeRef as _;
use serde_json::{Value, json};

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let input: Value = serde_json::from_str(&text).unwrap();
    let verify: Vec<String> = input["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| verify(path).err().unwrap_or_default())
        .collect();
    println!("{}", json!({ "verify": verify }));
}

fn read(der: &Value) -> Result<X509, ErrorStack> {
    X509::from_der(&STANDARD.decode(der.as_str().unwrap()).unwrap())
}

fn verify(path: &Value) -> Result<(), String> {
    let path: Result<Vec<X509>, _> = path.as_array().unwrap().iter().map(read).collect();
    let mut path = path.map_err(|error| error.to_string())?;
    let mut store = X509StoreBuilder::new().unwrap();
    store
        .add_cert(path.pop().unwrap())
        .map_err(|error| error.to_string())?;
    let store = store.build();
    let leaf = path.remove(0);
    let mut chain = Stack::new().unwrap();
    for certificate in path {
        chain.push(certificate).unwrap();
    }
    for purpose in [X509_PURPOSE_SSL_SERVER, X509_PURPOSE_SSL_CLIENT] {
        let mut context = X509StoreContext::new().unwrap();
        let result = context.init(&store, &leaf, &chain, |context| {
            // SAFETY: the context was initialized, and lives longer than the call. The crate has no
            // safe function for it.
            assert_eq!(1, unsafe {
                X509_STORE_CTX_set_purpose(context.as_ptr(), purpose)
            });
            let verified = context.verify_cert()?;
            Ok((verified, context.verify_result()))
        });
        match result.map_err(|error| error.to_string())? {
            (true, _) => {}
            (false, why) => return Err(format!("{why:?}")),
        }
    }
    Ok(())
}
