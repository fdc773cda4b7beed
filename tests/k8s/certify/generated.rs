//! Generated requests, good and bad. What each must be answered with comes from a model
//! that knows only how a request was put together, and the contract's rules.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use linkerd2_proxy_api::identity::CertifyRequest;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use tonic::Code;

use super::proxy::{CONTROL, code, name, take};
use super::{AUDIENCE, Scene};
use crate::objects::{pod, service_account, token_for};
use rootbridge_test_support::TD;
use rootbridge_test_support::campaign::rounds;
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::random::SplitMix64;

/// So that a run can be repeated; change it to look elsewhere.
const SEED: u64 = 20_261_123;

/// One of these; the first as often as all others together.
fn mostly<'a, T>(random: &mut SplitMix64, of: &'a [T]) -> &'a T {
    let at = random.next() as usize;
    match at % 2 {
        0 => &of[0],
        _ => &of[(at >> 8) % of.len()],
    }
}

/// How a request was put together.
#[derive(Clone, Debug)]
struct Recipe {
    identity: String,
    /// Whether the CSR has the identity's own DNS name; `further` is what it has beside that.
    own_name_in_csr: bool,
    further: Option<&'static str>,
    common_name: Option<String>,
    form: Form,
    token: Token,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Der,
    Pem,
    Cut,
    Unsigned,
    Empty,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// Accepted for the audience, as this account's.
    Of(&'static str),
    /// Of an account, for another audience.
    Elsewhere,
    Nonsense,
    Empty,
}

/// The contract's rules in their order.
fn expected(recipe: &Recipe, ns: &str) -> Code {
    let missing =
        recipe.identity.is_empty() || recipe.token == Token::Empty || recipe.form == Form::Empty;
    // The signature, at which Linkerd's controller does not look at all, is verified for callers only.
    let parses = matches!(recipe.form, Form::Der | Form::Unsigned);
    if missing || !parses {
        return Code::InvalidArgument;
    }
    let names_fit = recipe.own_name_in_csr && recipe.further.is_none();
    let fits = |cn: &String| cn.is_empty() || *cn == recipe.identity;
    if !names_fit || !recipe.common_name.as_ref().is_none_or(fits) {
        return Code::FailedPrecondition;
    }
    match recipe.token {
        Token::Of(account) if recipe.identity == name(ns, account) => match recipe.form {
            Form::Unsigned => Code::InvalidArgument,
            _ => Code::Ok,
        },
        _ => Code::FailedPrecondition,
    }
}

fn draw(random: &mut SplitMix64, ns: &str) -> Recipe {
    let own = name(ns, "app");
    let identity = mostly(
        random,
        &[
            own.clone(),
            name(ns, "other"),
            name("elsewhere", "app"),
            own.to_uppercase(),
            format!("app.{ns}.serviceaccount.identity.{CONTROL}.evil.local"),
            format!("app.{ns}.user.identity.{CONTROL}.{TD}"),
            format!("a.{own}"),
            format!("{own}."),
            String::new(),
        ],
    )
    .clone();
    let common = [
        None,
        Some(identity.clone()),
        Some(String::new()),
        Some("someone".to_owned()),
    ];
    let others = [
        None,
        Some("dns:other.example"),
        Some("uri:spiffe://cluster.local/ns/a/sa/b"),
        Some("mail:a@b.example"),
        Some("ip:10.0.0.1"),
    ];
    let forms = [
        Form::Der,
        Form::Der,
        Form::Pem,
        Form::Cut,
        Form::Unsigned,
        Form::Empty,
    ];
    let tokens = [
        Token::Of("app"),
        Token::Of("other"),
        Token::Elsewhere,
        Token::Nonsense,
        Token::Empty,
    ];
    Recipe {
        own_name_in_csr: *mostly(random, &[true, true, true, false]),
        further: *mostly(random, &others),
        common_name: mostly(random, &common).clone(),
        form: *mostly(random, &forms),
        token: mostly(random, &tokens).clone(),
        identity,
    }
}

/// The CSR of a recipe; for one key, as a container has.
fn csr(recipe: &Recipe, key: &KeyPair) -> KeyAndCsr {
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = &recipe.common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    if recipe.own_name_in_csr {
        let own = SanType::DnsName(text(&recipe.identity));
        params.subject_alt_names.push(own);
    }
    params.subject_alt_names.extend(recipe.further.map(|more| {
        let (kind, value) = more.split_once(':').unwrap();
        match kind {
            "dns" => SanType::DnsName(text(value)),
            "uri" => SanType::URI(text(value)),
            "mail" => SanType::Rfc822Name(text(value)),
            _ => SanType::IpAddress(value.parse().unwrap()),
        }
    }));
    let request = params.serialize_request(key).unwrap();
    KeyAndCsr {
        der: request.der().to_vec(),
        pem: request.pem().unwrap(),
        key: KeyPair::try_from(key.serialize_der()).unwrap(),
    }
}

fn sent(recipe: &Recipe, csr: &KeyAndCsr, tokens: &BTreeMap<&str, String>) -> CertifyRequest {
    let mut der = csr.der.clone();
    let token = match &recipe.token {
        Token::Of(account) => tokens[account].clone(),
        Token::Elsewhere => tokens["elsewhere"].clone(),
        Token::Nonsense => "nonsense".to_owned(),
        Token::Empty => String::new(),
    };
    CertifyRequest {
        identity: recipe.identity.clone(),
        token: token.into_bytes(),
        certificate_signing_request: match recipe.form {
            Form::Der => der,
            Form::Pem => csr.pem.clone().into_bytes(),
            Form::Cut => der[..der.len() / 2].to_vec(),
            Form::Unsigned => {
                *der.last_mut().unwrap() ^= 1;
                der
            }
            Form::Empty => Vec::new(),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_as_the_contract_says() {
    let scene = Scene::new("certify-generated").await;
    let ns = scene.ns;
    service_account(&scene.client, ns, "other").await;
    let other = pod(&scene.client, ns, "other-0", "other", ns).await;
    let tokens = BTreeMap::from([
        ("app", scene.token().await),
        (
            "other",
            token_for(&scene.client, (ns, "other"), AUDIENCE, &other).await,
        ),
        ("elsewhere", scene.token_for("elsewhere").await),
    ]);
    let minted = tokens.values().cloned();
    scene.setup.issuer.minted.lock().unwrap().extend(minted);
    scene.setup.lift_limits();
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let anchors = scene.anchors();
    let key = KeyPair::generate().unwrap();

    let mut random = SplitMix64(SEED);
    let requests = rounds(300, 1000);
    let recipes: Vec<_> = (0..requests).map(|_| draw(&mut random, ns)).collect();
    let outcomes = futures_util::stream::iter(&recipes).map(|recipe| {
        let csr = csr(recipe, &key);
        let request = sent(recipe, &csr, &tokens);
        let proxy = &proxy;
        async move { (recipe, csr, proxy.certify(request).await) }
    });
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut outcomes = outcomes.buffer_unordered(16);
    while let Some((recipe, csr, outcome)) = outcomes.next().await {
        let wanted = expected(recipe, ns);
        assert_eq!(code(&outcome), wanted, "{recipe:?}: {outcome:?}");
        if let Ok(answer) = &outcome {
            take(answer, &recipe.identity, &csr, &anchors);
        }
        *counts.entry(format!("{wanted:?}")).or_default() += 1;
    }
    // A model that never says yes, or hardly ever no, would show little.
    for code in ["Ok", "InvalidArgument", "FailedPrecondition"] {
        assert!(counts[code] as usize >= requests / 20, "{counts:?}");
    }
    let leaves = scene.setup.certificates(&[]).into_iter();
    let leaves = leaves.filter(|row| row["profile"] == "linkerd").count();
    assert_eq!(
        leaves, counts["Ok"] as usize,
        "each yes is on record, and no more"
    );
}
