//! The contract's checks in their order: one row for each, with its request, code and words.

use linkerd2_proxy_api::identity::CertifyRequest;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rootbridge::x509::{Certificate, San};
use tonic::Code;

use super::proxy::{CONTROL, code, name, request, take, valid_until};
use super::{AUDIENCE, Scene};
use crate::objects::{node, pod, service_account, token_for};
use rootbridge_test_support::TD;
use rootbridge_test_support::csr::KeyAndCsr;

/// A request of any shape.
fn csr(names: &[SanType], subject: &[(DnType, &str)]) -> KeyAndCsr {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.subject_alt_names = names.to_vec();
    let request = params.serialize_request(&key).unwrap();
    KeyAndCsr {
        der: request.der().to_vec(),
        pem: request.pem().unwrap(),
        key,
    }
}

fn text(text: &str) -> Ia5String {
    Ia5String::try_from(text).unwrap()
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(text(name))
}

/// As a proxy makes it: the name is the commonName and the one DNS name.
fn plain(name: &str) -> KeyAndCsr {
    csr(&[dns(name)], &[(DnType::CommonName, name)])
}

struct Row {
    what: &'static str,
    request: CertifyRequest,
    code: Code,
    words: &'static str,
}

struct Rows(Vec<Row>);

impl Rows {
    fn add(
        &mut self,
        what: &'static str,
        request: CertifyRequest,
        code: Code,
        words: &'static str,
    ) {
        self.0.push(Row {
            what,
            request,
            code,
            words,
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_check_of_the_contract_in_its_order() {
    use Code::{FailedPrecondition, InvalidArgument, Ok};
    let scene = Scene::new("certify-table").await;
    let ns = scene.ns;
    let own = name(ns, "app");
    let token = scene.token().await;
    let good = plain(&own);
    let ask = |csr: &KeyAndCsr| request(&own, &token, csr);
    let with = |token: &str| request(&own, token, &good);
    let named = |name: &str| request(name, &token, &plain(name));
    let mut rows = Rows(Vec::new());

    let proxys = ask(&good);
    rows.add("what a proxy sends", proxys.clone(), Ok, "");
    let bare = csr(&[dns(&own)], &[]);
    rows.add("no commonName", ask(&bare), Ok, "");
    let empty = csr(&[dns(&own)], &[(DnType::CommonName, "")]);
    rows.add("an empty commonName", ask(&empty), Ok, "");
    let more = [
        (DnType::CommonName, own.as_str()),
        (DnType::OrganizationName, "evil"),
        (DnType::CountryName, "XX"),
    ];
    rows.add(
        "further subject fields",
        ask(&csr(&[dns(&own)], &more)),
        Ok,
        "",
    );

    // Fields that are missing or do not parse.
    let words = "identity: is missing";
    let mut changed = proxys.clone();
    changed.identity.clear();
    rows.add("no identity", changed, InvalidArgument, words);
    let mut changed = proxys.clone();
    changed.token.clear();
    rows.add("no token", changed, InvalidArgument, "token: is missing");
    let mut changed = proxys.clone();
    changed.certificate_signing_request.clear();
    let words = "certificate_signing_request: is missing";
    rows.add("no CSR", changed, InvalidArgument, words);
    let mut changed = proxys.clone();
    changed.certificate_signing_request = good.pem.clone().into_bytes();
    rows.add("a CSR in PEM", changed, InvalidArgument, "csr: CSR");
    let mut changed = proxys.clone();
    changed.certificate_signing_request.truncate(100);
    rows.add("half a CSR", changed, InvalidArgument, "csr: CSR");
    let mut changed = proxys.clone();
    *changed.certificate_signing_request.last_mut().unwrap() ^= 1;
    let words = "proof of possession";
    rows.add(
        "a CSR that another key signed",
        changed,
        InvalidArgument,
        words,
    );
    for (what, field) in [
        ("1 MiB of identity", 0),
        ("1 MiB of token", 1),
        ("1 MiB of CSR", 2),
    ] {
        let mut changed = proxys.clone();
        match field {
            0 => changed.identity = "a".repeat(1 << 20),
            1 => changed.token = vec![b'a'; 1 << 20],
            _ => changed.certificate_signing_request = vec![0x30; 1 << 20],
        }
        rows.add(what, changed, InvalidArgument, "too large");
    }

    // A CSR that names something else.
    let one = "exactly one name";
    let two = csr(&[dns(&own), dns("other.example")], &[]);
    rows.add("two DNS names", ask(&two), FailedPrecondition, one);
    rows.add("no name", ask(&csr(&[], &[])), FailedPrecondition, one);
    for (what, san) in [
        (
            "and an IP address",
            SanType::IpAddress([10, 0, 0, 1].into()),
        ),
        (
            "and a SPIFFE ID",
            SanType::URI(text("spiffe://cluster.local/ns/a/sa/b")),
        ),
    ] {
        let both = csr(&[dns(&own), san], &[]);
        rows.add(what, ask(&both), FailedPrecondition, one);
    }
    let mail = csr(&[dns(&own), SanType::Rfc822Name(text("a@b.example"))], &[]);
    rows.add("and an email", ask(&mail), FailedPrecondition, "rfc822Name");
    let uri = csr(&[dns(&own), SanType::URI(text("https://b.example"))], &[]);
    rows.add("and a URI", ask(&uri), FailedPrecondition, "SPIFFE ID");
    let differs = "names another identity";
    let other = plain(&name(ns, "other"));
    rows.add(
        "another's CSR, replayed",
        ask(&other),
        FailedPrecondition,
        differs,
    );
    let words = "commonName";
    let cn = csr(&[dns(&own)], &[(DnType::CommonName, "other")]);
    rows.add("another commonName", ask(&cn), FailedPrecondition, words);

    // A token that is not authenticated.
    let words = "credential was rejected";
    let elsewhere = scene.token_for("istio-ca").await;
    rows.add(
        "a token for istiod",
        with(&elsewhere),
        FailedPrecondition,
        words,
    );
    let api = scene.token_for("https://kubernetes.default.svc").await;
    rows.add(
        "a token for the API server",
        with(&api),
        FailedPrecondition,
        words,
    );
    rows.add("no JWT", with("secret"), FailedPrecondition, words);
    let mut broken = token.clone();
    broken.truncate(token.len() - 8);
    rows.add(
        "a token cut short",
        with(&broken),
        FailedPrecondition,
        words,
    );
    // Judged before the CSR's signature, which costs more.
    let mut both = with(&broken);
    *both.certificate_signing_request.last_mut().unwrap() ^= 1;
    rows.add(
        "a token cut short with a CSR that another key signed",
        both,
        FailedPrecondition,
        words,
    );
    let mut bytes = proxys.clone();
    bytes.token = vec![0xff; 40];
    rows.add("a token that is no text", bytes, FailedPrecondition, words);

    // Another account's token.
    let not = "not the name of the token's service account";
    let other_ns = name("certify-elsewhere", "app");
    rows.add(
        "another namespace",
        named(&other_ns),
        FailedPrecondition,
        not,
    );
    rows.add(
        "another account",
        named(&name(ns, "root")),
        FailedPrecondition,
        not,
    );
    for (what, form) in [
        (
            "another trust domain",
            format!("app.{ns}.serviceaccount.identity.{CONTROL}.evil.local"),
        ),
        (
            "another control plane",
            format!("app.{ns}.serviceaccount.identity.other.{TD}"),
        ),
        (
            "another type",
            format!("app.{ns}.user.identity.{CONTROL}.{TD}"),
        ),
        (
            "a prefix",
            format!("x.app.{ns}.serviceaccount.identity.{CONTROL}.{TD}"),
        ),
    ] {
        rows.add(what, named(&form), FailedPrecondition, not);
    }
    let upper = own.replacen("app", "App", 1);
    rows.add(
        "an upper-case label",
        named(&upper),
        FailedPrecondition,
        differs,
    );
    let dot = format!("{own}.");
    rows.add(
        "a dot at the end",
        named(&dot),
        FailedPrecondition,
        "DNS name",
    );
    let long = format!("{}{}", "a".repeat(61), own);
    rows.add(
        "a label of 64 characters",
        named(&long),
        FailedPrecondition,
        "63",
    );
    node(&scene.client, "certify-odd").await;
    for (what, sa, code) in [
        ("an account with a dot", "app.v1", FailedPrecondition),
        (
            "an account of 64 characters",
            &"b".repeat(64),
            FailedPrecondition,
        ),
        ("an account of 63 characters", &"c".repeat(63), Ok),
    ] {
        service_account(&scene.client, ns, sa).await;
        let pod_name = format!("odd-{}", sa.len());
        let pod = pod(&scene.client, ns, &pod_name, sa, "certify-odd").await;
        let token = token_for(&scene.client, (ns, sa), AUDIENCE, &pod).await;
        scene
            .setup
            .issuer
            .minted
            .lock()
            .unwrap()
            .push(token.clone());
        let name = name(ns, sa);
        rows.add(what, request(&name, &token, &plain(&name)), code, "");
    }

    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let mut issued = 0;
    for row in rows.0 {
        let outcome = proxy.certify(row.request).await;
        let reported = outcome
            .as_ref()
            .err()
            .map(|status| status.message().to_owned());
        assert_eq!(code(&outcome), row.code, "{}: {reported:?}", row.what);
        let reported = reported.unwrap_or_default();
        assert!(reported.contains(row.words), "{}: {reported}", row.what);
        issued += usize::from(outcome.is_ok());
    }
    // Two tokens for others went to the cluster. What is no JWT went to no cluster; one that was
    // cut short may be either.
    let counted = async |cluster: &str| {
        let labels = format!(
            "listener=\"identity\",api=\"linkerd\",cluster=\"{cluster}\",reason=\"rejected\""
        );
        let name = format!("rootbridge_authentications_refused_total{{{labels}}}");
        server.metric(&name).await.unwrap_or_default()
    };
    let (east, nobody) = (counted("east").await, counted("").await);
    assert!(east >= 2.0, "{east}");
    assert_eq!(east + nobody, 6.0);
    let on_record = scene.setup.certificates(&[]);
    let leaves = on_record.iter().filter(|row| row["profile"] == "linkerd");
    assert_eq!(leaves.count(), issued, "nothing else was recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_accepts_the_answer() {
    let scene = Scene::new("certify-answer").await;
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let subject = [
        (DnType::CommonName, own.as_str()),
        (DnType::OrganizationName, "evil"),
    ];
    let csr = csr(&[dns(&own)], &subject);
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let started = super::proxy::now();
    let mut seen = Vec::new();
    // A container has one key and one CSR for all of its life.
    for _ in 0..8 {
        let answer = proxy.certify(request(&own, &token, &csr)).await.unwrap();
        take(&answer, &own, &csr, &scene.anchors());
        let leaf = Certificate::parse(answer.leaf_certificate.clone()).unwrap();
        assert_eq!(leaf.names().len(), 1);
        assert!(matches!(&leaf.names()[0], San::Dns(name) if name.as_str() == own));
        assert!(!leaf.subject().contains("evil"), "{}", leaf.subject());
        let (from, to) = (leaf.not_before().secs(), leaf.not_after().secs());
        assert_eq!(to - from, 86_400 + 40, "a day, and 20 s on both sides");
        let until = valid_until(&answer);
        let end = u64::try_from(to).unwrap();
        assert!(
            until <= end - 4 * 3600,
            "the margin is a sixth of the lifetime"
        );
        assert!(until >= end - 12 * 3600, "and the jitter a third");
        assert!(until > started + 11 * 3600);
        seen.push(until);
    }
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.len() > 1, "each has a draw of its own");
    let rows = scene.setup.certificates(&[]);
    let row = rows.iter().find(|row| row["profile"] == "linkerd").unwrap();
    assert_eq!(row["caller"]["method"], "token_review");
    assert_eq!(row["caller"]["cluster"], "east");
}
