//! The calls that are compared: those that Consul, cert-manager and SPIRE make, and their failures.

use rcgen::KeyPair;
use reqwest::Method;
use rootbridge_test_support::TD;
use rootbridge_test_support::csr::KeyAndCsr;
use serde_json::{Value, json};

use crate::intermediates::ca_csr;

/// Which token a call has.
#[derive(Debug, Clone, Copy)]
pub enum Token {
    /// That of a login before.
    Own,
    None,
    Unknown,
}

/// One call; its name is that in the table.
pub struct Call {
    pub name: &'static str,
    pub method: Method,
    pub path: &'static str,
    pub token: Token,
    pub body: String,
}

/// In this order: some end what others need.
pub fn calls() -> Vec<Call> {
    let csr = KeyAndCsr::new(&["a.shop.svc"]).pem;
    let key = KeyPair::generate().unwrap();
    let below = ca_csr(&key, &format!("spiffe://{TD}"), None);
    let leaf = |more: Value| {
        let mut body = json!({ "csr": csr });
        let fields = body.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let none = String::new;
    let list = Method::from_bytes(b"LIST").unwrap();
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let wrong = json!({ "role_id": "nobody", "secret_id": "x" }).to_string();
    let open = Token::None;
    let own = Token::Own;
    let rows: Vec<(&'static str, &Method, &'static str, Token, String)> = vec![
        ("health", &get, "sys/health", open, none()),
        ("seal-status", &get, "sys/seal-status", open, none()),
        ("login", &put, "auth/approle/login", open, "LOGIN".to_owned()),
        ("login, unknown role", &put, "auth/approle/login", open, wrong),
        ("login, no role_id", &put, "auth/approle/login", open, "{\"secret_id\":\"x\"}".to_owned()),
        ("login, no such method", &put, "auth/nowhere/login", open, "{}".to_owned()),
        ("lookup-self", &get, "auth/token/lookup-self", own, none()),
        ("lookup-self, no token", &get, "auth/token/lookup-self", open, none()),
        ("lookup-self, unknown token", &get, "auth/token/lookup-self", Token::Unknown, none()),
        ("renew-self", &put, "auth/token/renew-self", own, "{\"increment\":600}".to_owned()),
        ("renew-self, odd increment", &put, "auth/token/renew-self", own, "{\"increment\":\"soon\"}".to_owned()),
        ("mounts", &get, "sys/mounts", own, none()),
        ("mount", &get, "sys/mounts/pki", own, none()),
        ("mount, unknown", &get, "sys/mounts/nowhere", own, none()),
        ("enable a mount that exists", &post, "sys/mounts/pki", own, "{\"type\":\"pki\"}".to_owned()),
        ("tune", &get, "sys/mounts/pki/tune", own, none()),
        ("tune, write", &post, "sys/mounts/pki/tune", own, "{\"max_lease_ttl\":\"87600h\"}".to_owned()),
        ("ca/pem", &get, "pki/ca/pem", open, none()),
        ("ca/pem, no mount", &get, "nowhere/ca/pem", open, none()),
        ("ca/pem, no mount, with a token", &get, "nowhere/ca/pem", own, none()),
        ("ca_chain", &get, "pki/ca_chain", open, none()),
        ("ca", &get, "pki/ca", open, none()),
        ("cert/ca", &get, "pki/cert/ca", open, none()),
        ("cert/ca_chain", &get, "pki/cert/ca_chain", open, none()),
        ("issuers", &list, "pki/issuers", own, none()),
        ("keys", &list, "pki/keys", own, none()),
        ("issuer", &get, "pki/issuer/default", own, none()),
        ("issuer/json", &get, "pki/issuer/default/json", open, none()),
        ("issuer/pem", &get, "pki/issuer/default/pem", open, none()),
        ("issuer, unknown", &get, "pki/issuer/nowhere", own, none()),
        ("key", &get, "pki/key/default", own, none()),
        ("config/issuers", &get, "pki/config/issuers", own, none()),
        ("config/auto-tidy, write", &put, "pki/config/auto-tidy", own, "{\"enabled\":true,\"tidy_expired_issuers\":true}".to_owned()),
        ("config/urls, write", &put, "pki/config/urls", own, "{\"issuing_certificates\":\"https://a.example/ca\"}".to_owned()),
        ("roles", &list, "pki/roles", own, none()),
        ("role", &get, "pki/roles/web", own, none()),
        (
            "role, write",
            &put,
            "pki/roles/web",
            own,
            json!({
                "allow_any_name": true, "allowed_uri_sans": "spiffe://*", "key_type": "any",
                "max_ttl": "72h0m0s", "no_store": true, "require_cn": false,
            })
            .to_string(),
        ),
        ("role, delete", &delete, "pki/roles/other", own, none()),
        ("sign", &put, "pki/sign/web", own, leaf(json!({ "ttl": "1h0m0s" }))),
        ("sign, strings as cert-manager sends", &post, "pki/sign/web", own, leaf(json!({
            "common_name": "a.shop.svc", "alt_names": "a.shop.svc", "ip_sans": "", "uri_sans": "",
            "ttl": "1h0m0s", "exclude_cn_from_sans": "true",
        }))),
        ("sign, longer than the role", &put, "pki/sign/web", own, leaf(json!({ "ttl": "9000h" }))),
        ("sign, DER", &put, "pki/sign/web", own, leaf(json!({ "format": "der" }))),
        ("sign, bundle", &put, "pki/sign/web", own, leaf(json!({ "format": "pem_bundle" }))),
        ("sign, unknown format", &put, "pki/sign/web", own, leaf(json!({ "format": "jks" }))),
        ("sign, odd ttl", &put, "pki/sign/web", own, leaf(json!({ "ttl": "soon" }))),
        ("sign, ttl of a wrong type", &put, "pki/sign/web", own, leaf(json!({ "ttl": {} }))),
        ("sign, no CSR", &put, "pki/sign/web", own, "{}".to_owned()),
        ("sign, CSR of a wrong type", &put, "pki/sign/web", own, "{\"csr\":{}}".to_owned()),
        ("sign, no CSR in the text", &put, "pki/sign/web", own, "{\"csr\":\"x\"}".to_owned()),
        ("sign, no JSON", &put, "pki/sign/web", own, "csr=x".to_owned()),
        ("sign, a list", &put, "pki/sign/web", own, "[]".to_owned()),
        ("sign, no token", &put, "pki/sign/web", open, leaf(json!({}))),
        ("sign, read", &get, "pki/sign/web", own, none()),
        ("sign, delete", &delete, "pki/sign/web", own, none()),
        ("sign, unknown role", &put, "pki/sign/elsewhere", own, leaf(json!({}))),
        ("sign by an issuer", &put, "pki/issuer/default/sign/web", own, leaf(json!({}))),
        (
            "sign-intermediate",
            &put,
            "pki/root/sign-intermediate",
            own,
            json!({ "common_name": "", "uri_sans": format!("spiffe://{TD}"), "csr": below, "ttl": "3600" })
                .to_string(),
        ),
        ("sign-intermediate, no CSR", &put, "pki/root/sign-intermediate", own, "{}".to_owned()),
        (
            "intermediate/generate",
            &put,
            "pki/intermediate/generate/internal",
            own,
            json!({ "common_name": "inter", "key_type": "ec", "key_bits": 256 }).to_string(),
        ),
        ("set-signed, no certificate", &put, "pki/intermediate/set-signed", own, "{\"certificate\":\"x\"}".to_owned()),
        ("root/generate", &put, "pki/root/generate/internal", own, "{\"common_name\":\"again\"}".to_owned()),
        ("root/sign-self-issued", &put, "pki/root/sign-self-issued", own, "{}".to_owned()),
        ("revoke, unknown", &put, "pki/revoke", own, "{\"serial_number\":\"01:02\"}".to_owned()),
        ("no such path in the mount", &get, "pki/nowhere", own, none()),
        ("no such path", &get, "nowhere", own, none()),
        ("revoke-self", &put, "auth/token/revoke-self", own, none()),
        ("lookup-self, revoked", &get, "auth/token/lookup-self", own, none()),
    ];
    rows.into_iter()
        .map(|(name, method, path, token, body)| Call {
            name,
            method: method.clone(),
            path,
            token,
            body,
        })
        .collect()
}
