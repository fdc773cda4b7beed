//! Envoy's secret discovery service: which roots each name holds, when they are sent, and what a client
//! says of them.

use std::collections::BTreeMap;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::stream::poll_fn;
use prost::Message as _;
use prost_types::Any;
use rootbridge::mesh::proto::envoy::config::core::v3::Node;
use rootbridge::mesh::proto::envoy::config::core::v3::data_source::Specifier;
use rootbridge::mesh::proto::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use rootbridge::mesh::proto::envoy::extensions::transport_sockets::tls::v3::{
    Secret, SpiffeCertValidatorConfig,
};
use rootbridge::mesh::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use rootbridge::mesh::proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use rootbridge::mesh::proto::google::rpc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use rootbridge_test_support::grpc::{Client, bearer, refusal};
use rootbridge_test_support::jwt::claims;
use rootbridge_test_support::openssl::OpensslCa;
use rootbridge_test_support::{PATIENCE, RunningServer, TD, TestServer, eventually};

const EDGE: &str = "edge.example";
const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A stream as a client has it.
pub(crate) struct Stream<Q, A> {
    send: UnboundedSender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Stream<Q, A> {
    pub(crate) fn send(&self, request: Q) {
        self.send.send(request).unwrap();
    }

    pub(crate) async fn answer(&mut self) -> Result<A, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await;
        answer
            .expect("no answer came")
            .map(|answer| answer.expect("the stream ended"))
    }
}

fn with<T>(body: T, token: &str) -> Request<T> {
    let mut request = Request::new(body);
    if !token.is_empty() {
        *request.metadata_mut() = bearer(token);
    }
    request
}

fn requests<Q>() -> (UnboundedSender<Q>, impl futures_util::Stream<Item = Q>) {
    let (send, mut receive): (_, UnboundedReceiver<Q>) = unbounded_channel();
    (
        send,
        poll_fn(move |cx| -> Poll<Option<Q>> { receive.poll_recv(cx) }),
    )
}

fn sds(client: &Client) -> SecretDiscoveryServiceClient<Channel> {
    SecretDiscoveryServiceClient::new(client.0.clone())
}

pub(crate) async fn open(
    client: &Client,
    token: &str,
) -> Result<Stream<DiscoveryRequest, DiscoveryResponse>, Status> {
    let (send, messages) = requests();
    let answers = sds(client).stream_secrets(with(messages, token)).await?;
    let answers = answers.into_inner();
    Ok(Stream { send, answers })
}

async fn open_delta(
    client: &Client,
    token: &str,
) -> Result<Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>, Status> {
    let (send, messages) = requests();
    let answers = sds(client).delta_secrets(with(messages, token)).await?;
    let answers = answers.into_inner();
    Ok(Stream { send, answers })
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn subscribe(names: &[&str], last: Option<&DiscoveryResponse>) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: last.map_or_else(String::new, |last| last.version_info.clone()),
        node: last.is_none().then(|| Node {
            id: "sidecar~shop/cart\n".to_owned(),
            cluster: "shop".to_owned(),
        }),
        resource_names: strings(names),
        type_url: TYPE_URL.to_owned(),
        response_nonce: last.map_or_else(String::new, |last| last.nonce.clone()),
        error_detail: None,
    }
}

fn refuse(names: &[&str], last: &DiscoveryResponse, why: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        error_detail: Some(rpc::Status {
            code: 13,
            message: why.to_owned(),
        }),
        ..subscribe(names, Some(last))
    }
}

/// The PEM of each secret, by trust domain; for that of any names the domain is empty.
pub(crate) fn contexts(resources: &[Any]) -> BTreeMap<String, BTreeMap<String, String>> {
    let inline = |source: Option<Specifier>| match source {
        Some(Specifier::InlineString(pem)) => pem,
        other => panic!("{other:?}"),
    };
    let each = resources.iter().map(|any| {
        assert_eq!(any.type_url, TYPE_URL);
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        let Some(Type::ValidationContext(context)) = secret.r#type else {
            panic!("{secret:?}");
        };
        let mut roots = BTreeMap::new();
        if let Some(trusted) = context.trusted_ca {
            roots.insert(String::new(), inline(trusted.specifier));
        }
        if let Some(validator) = context.custom_validator_config {
            assert_eq!(validator.name, "envoy.tls.cert_validator.spiffe");
            let config = validator.typed_config.unwrap();
            let config = SpiffeCertValidatorConfig::decode(config.value.as_slice()).unwrap();
            roots.extend(
                config
                    .trust_domains
                    .into_iter()
                    .map(|domain| (domain.name, inline(domain.trust_bundle.unwrap().specifier))),
            );
        }
        (secret.name, roots)
    });
    each.collect()
}

pub(crate) fn one(domain: &str, pem: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(domain.to_owned(), pem.to_owned())])
}

pub(crate) fn setup() -> TestServer {
    TestServer::with(&[
        (
            "apis = [\"istio\", \"certificates\", \"bundles\"]",
            "apis = [\"istio\", \"certificates\", \"bundles\", \"sds\"]\n\
             limits = { body_timeout = \"1s\" }",
        ),
        (
            "certificates = \"rootbridge\" }",
            "certificates = \"rootbridge\", sds = \"envoy\" }",
        ),
    ])
}

pub(crate) fn token(setup: &TestServer) -> String {
    setup.issuer.mint(&claims("shop", "cart", "envoy"))
}

async fn streams(server: &RunningServer, state: &str) -> Option<f64> {
    let name = format!("rootbridge_sds_streams{{listener=\"mesh\",state=\"{state}\"}}");
    server.metric(&name).await
}

async fn answers(server: &RunningServer, result: &str) -> Option<f64> {
    let name = format!("rootbridge_sds_answers_total{{listener=\"mesh\",result=\"{result}\"}}");
    server.metric(&name).await
}

async fn are(server: &RunningServer, state: &str, count: f64) {
    eventually(PATIENCE, state, async || {
        streams(server, state).await == Some(count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roots_are_pushed() {
    let setup = setup();
    let server = setup.serve().await;
    let client = server.client(TD).await;

    // Without a credential, and with one for another API.
    for credential in ["", &setup.issuer.istio("shop", "cart")] {
        let refused = open(&client, credential).await.map(|_| ());
        refusal(refused, Code::Unauthenticated);
        let refused = open_delta(&client, credential).await.map(|_| ());
        refusal(refused, Code::Unauthenticated);
        let request = with(subscribe(&["ROOTCA"], None), credential);
        refusal(
            sds(&client).fetch_secrets(request).await,
            Code::Unauthenticated,
        );
    }
    assert_eq!(answers(&server, "refused").await, Some(0.0));

    let opened = Instant::now();
    let token = token(&setup);
    let mut stream = open(&client, &token).await.unwrap();
    stream.send(subscribe(&["ROOTCA"], None));
    let first = stream.answer().await.unwrap();
    let own = setup.roots(TD);
    assert_eq!(contexts(&first.resources)["ROOTCA"], one("", &own));
    assert_eq!(first.type_url, TYPE_URL);
    are(&server, "waiting", 1.0).await;
    stream.send(subscribe(&["ROOTCA"], Some(&first)));
    are(&server, "accepted", 1.0).await;
    assert_eq!(answers(&server, "accepted").await, Some(1.0));

    // A stream lasts longer than the body of a call may take.
    eventually(PATIENCE, "body_timeout", async || {
        opened.elapsed() > Duration::from_millis(1500)
    })
    .await;
    let other = OpensslCa::new(&setup.path(""), "other");
    let other_file = other.pem_file();
    let add = ["anchors", "add", "--trust-domain", TD, "--source", "test"];
    setup.cli(&[&add[..], &[other_file.to_str().unwrap()]].concat());
    let second = stream.answer().await.unwrap();
    let both = contexts(&second.resources)["ROOTCA"][""].clone();
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.contains(own.trim()), "{both}");
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(second.nonce, first.nonce);

    // The client refuses it, and says why. It is not sent a second time.
    stream.send(refuse(&["ROOTCA"], &second, "no second\nroot"));
    server.wait_for_log("no second root").await;
    server.wait_for_log("sidecar~shop/cart ").await;
    are(&server, "refused", 1.0).await;
    assert_eq!(answers(&server, "refused").await, Some(1.0));

    // What answers an earlier nonce counts for nothing. A name that does not exist waits.
    let edge_name = format!("spiffe://{EDGE}");
    let names = ["ROOTCA", "ALL", edge_name.as_str(), "other"];
    stream.send(subscribe(&["ALL"], Some(&first)));
    stream.send(subscribe(&names, Some(&second)));
    let third = stream.answer().await.unwrap();
    let there = contexts(&third.resources);
    assert_eq!(there.keys().collect::<Vec<_>>(), ["ALL", "ROOTCA"]);
    assert_eq!(there["ALL"], one(TD, &both));
    stream.send(subscribe(&names, Some(&third)));
    are(&server, "accepted", 1.0).await;

    // The same by the other protocol, and in one call.
    let mut delta = open_delta(&client, &token).await.unwrap();
    delta.send(DeltaDiscoveryRequest {
        type_url: TYPE_URL.to_owned(),
        resource_names_subscribe: strings(&["ROOTCA", &edge_name]),
        ..DeltaDiscoveryRequest::default()
    });
    let begun = delta.answer().await.unwrap();
    assert_eq!(begun.removed_resources, [edge_name.as_str()]);
    let roots = begun.resources[0].clone();
    assert_eq!((begun.resources.len(), roots.name.as_str()), (1, "ROOTCA"));
    assert_eq!(
        contexts(&[roots.resource.unwrap()])["ROOTCA"],
        one("", &both)
    );
    delta.send(DeltaDiscoveryRequest {
        response_nonce: begun.nonce,
        ..DeltaDiscoveryRequest::default()
    });
    are(&server, "accepted", 2.0).await;
    let request = with(subscribe(&names, None), &token);
    let fetched = sds(&client).fetch_secrets(request).await.unwrap();
    let fetched = fetched.into_inner();
    assert_eq!(contexts(&fetched.resources), there);
    assert_eq!(fetched.version_info, third.version_info);

    // Another trust domain: its roots are its own, and for nobody else's names.
    setup.init(EDGE, &[]);
    let fourth = stream.answer().await.unwrap();
    let there = contexts(&fourth.resources);
    let edge = one(EDGE, &setup.roots(EDGE));
    let mut every = one(TD, &both);
    every.extend(edge.clone());
    assert_eq!(there["ALL"], every);
    assert_eq!(there[&edge_name], edge);
    assert_eq!(there["ROOTCA"], one("", &both));
    let come = delta.answer().await.unwrap();
    assert_eq!((come.resources.len(), come.removed_resources.len()), (1, 0));
    let resource = come.resources[0].clone();
    assert_eq!(contexts(&[resource.resource.unwrap()])[&edge_name], edge);

    // A client that comes back gets what it does not have.
    drop(delta);
    are(&server, "waiting", 1.0).await;
    let mut again = open_delta(&client, &token).await.unwrap();
    again.send(DeltaDiscoveryRequest {
        resource_names_subscribe: strings(&["ROOTCA", "ALL"]),
        initial_resource_versions: [("ROOTCA".to_owned(), roots.version)].into(),
        ..DeltaDiscoveryRequest::default()
    });
    let missed = again.answer().await.unwrap();
    let names_of = |answer: &DeltaDiscoveryResponse| {
        let names = answer.resources.iter().map(|each| each.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names_of(&missed), ["ALL"]);

    // A root goes.
    let fingerprint = fingerprint(&other.pem());
    setup.cli(&["anchors", "remove", &fingerprint]);
    let fifth = stream.answer().await.unwrap();
    assert_eq!(contexts(&fifth.resources)["ROOTCA"], one("", &own));
    let less = again.answer().await.unwrap();
    assert_eq!(names_of(&less), ["ALL", "ROOTCA"]);
    again.send(DeltaDiscoveryRequest {
        resource_names_unsubscribe: strings(&["ALL"]),
        response_nonce: less.nonce.clone(),
        error_detail: Some(rpc::Status::default()),
        ..DeltaDiscoveryRequest::default()
    });
    are(&server, "refused", 1.0).await;

    // Streams end with the server, and not before.
    server.metrics_are_listed().await;
    let shutdown = server.stop_in_order();
    let ((), last) = tokio::join!(shutdown, async { stream.answers.message().await });
    assert!(last.unwrap().is_none(), "the stream ended with an answer");
}

fn fingerprint(pem: &str) -> String {
    let root = rootbridge::x509::parse_pem_chain(pem.as_bytes()).unwrap();
    rootbridge::digest::hex(&rootbridge::digest::sha256(root[0].der()))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_bounded() {
    let setup = setup();
    let server = setup.serve().await;
    let client = server.client(TD).await;
    let token = token(&setup);
    let many: Vec<String> = (0..65).map(|n| format!("spiffe://n{n}.example")).collect();
    let mut other_type = subscribe(&["ROOTCA"], None);
    other_type.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    let mut too_large = subscribe(&["ROOTCA"], None);
    too_large.type_url = "x".repeat(300 * 1024);
    let with_names = |resource_names| DiscoveryRequest {
        resource_names,
        ..subscribe(&[], None)
    };
    for (request, code, says) in [
        (with_names(many), Code::InvalidArgument, "at most 64"),
        (
            with_names(vec!["x".repeat(513)]),
            Code::InvalidArgument,
            "512 bytes",
        ),
        (other_type, Code::InvalidArgument, "type_url"),
        (too_large, Code::OutOfRange, "limit"),
    ] {
        let mut stream = open(&client, &token).await.unwrap();
        stream.send(request.clone());
        let ended = stream.answer().await.unwrap_err();
        assert_eq!(ended.code(), code, "{ended:?}");
        assert!(ended.message().contains(says), "{ended:?}");
        let fetched = sds(&client).fetch_secrets(with(request, &token)).await;
        assert_eq!(fetched.unwrap_err().code(), code);
    }
    // Envoy lists its extensions: more than the listener's other calls may send.
    let mut stream = open(&client, &token).await.unwrap();
    let mut large = subscribe(&["ROOTCA"], None);
    large.node.as_mut().unwrap().cluster = "x".repeat(200 * 1024);
    stream.send(large);
    let first = stream.answer().await.unwrap();
    // As often as it likes: what is read is no longer counted.
    for _ in 0..200 {
        let mut next = subscribe(&["ROOTCA"], Some(&first));
        next.version_info = "x".repeat(200 * 1024);
        stream.send(next);
    }
    stream.send(subscribe(&["ROOTCA", "ALL"], Some(&first)));
    let second = stream.answer().await.unwrap();
    assert_eq!(contexts(&second.resources).len(), 2);
    server.stop().await;
}
