//! PodCertificateRequests on the v1 API: a kubelet under NodeRestriction makes them, and the API
//! server validates the answers.

mod time;

use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt as _};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use rootbridge::x509::parse_pem_chain;
use serde_json::{Value, json};

use super::objects::{create, node, service_account};
use super::server::{ApiServer, shared};
use super::signing::{Change, Scene};
use rootbridge_test_support::{PATIENCE, eventually};

/// A pod on a node, and the node's kubelet.
struct Pods {
    scene: Scene,
    kubelet: Client,
    template: Value,
}

impl Pods {
    async fn new(name: &str, more: &str) -> Self {
        Self::on(shared(), name, more).await
    }

    async fn on(server: &ApiServer, name: &str, more: &str) -> Self {
        Self::of(Scene::new(server, name, more).await, server).await
    }

    async fn of(scene: Scene, server: &ApiServer) -> Self {
        let name = scene.namespace.as_str();
        let admin = &scene.admin;
        let account = service_account(admin, name, "web").await;
        let host = node(admin, name).await;
        let pods: Api<Pod> = Api::namespaced(admin.clone(), name);
        let pod = create(&pods, web(name, &scene.signer)).await;
        let kubelet = server.client_as(&server.kubelet(name)).await;
        let template = json!({
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "PodCertificateRequest",
            "metadata": { "generateName": "req-web-0-" },
            "spec": {
                "signerName": scene.signer,
                "podName": "web-0", "podUID": pod.uid(),
                "serviceAccountName": "web", "serviceAccountUID": account.uid(),
                "nodeName": name, "nodeUID": host.uid(),
                "maxExpirationSeconds": 86400,
            },
        });
        Self {
            scene,
            kubelet,
            template,
        }
    }

    async fn make(
        &self,
        stub: &[u8],
        change: impl FnOnce(&mut Value),
    ) -> Result<String, kube::Error> {
        let mut object = self.template.clone();
        object["spec"]["stubPKCS10Request"] = json!(ByteString(stub.to_vec()));
        change(&mut object);
        let object = serde_json::from_value(object).unwrap();
        let (api, how) = (self.api(&self.kubelet), PostParams::default());
        let started = Instant::now();
        loop {
            match api.create(&how, &object).await {
                Ok(made) => return Ok(made.name_any()),
                // NodeRestriction has not seen the pod or its account yet: a kubelet repeats too.
                Err(kube::Error::Api(status))
                    if status.message.contains("while retrieving")
                        && started.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn api(&self, client: &Client) -> Api<PodCertificateRequest> {
        Api::namespaced(client.clone(), &self.scene.namespace)
    }

    /// The request with its one condition: type and reason.
    async fn answer(&self, name: &str) -> (PodCertificateRequest, String, String) {
        let api = self.api(&self.scene.admin);
        let mut found = None;
        eventually(PATIENCE, "an answer", async || {
            found = Some(api.get(name).await.unwrap());
            let status = found.as_ref().and_then(|object| object.status.as_ref());
            status.is_some_and(|status| status.conditions.is_some())
        })
        .await;
        let found = found.unwrap();
        let conditions = found.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!(conditions.len(), 1);
        let (kind, reason) = (conditions[0].type_.clone(), conditions[0].reason.clone());
        (found, kind, reason)
    }
}

/// A pod as docs/how-to/pod-certificates.md shows it; without the volume its node may not ask.
fn web(namespace: &str, signer: &str) -> Value {
    json!({
        "metadata": { "name": "web-0" },
        "spec": {
            "nodeName": namespace,
            "serviceAccountName": "web",
            "containers": [{
                "name": "main", "image": "none",
                "volumeMounts": [{ "name": "identity", "mountPath": "/run/identity" }],
            }],
            "volumes": [{
                "name": "identity",
                "projected": { "sources": [{ "podCertificate": {
                    "signerName": signer,
                    "keyType": "ECDSAP256",
                    "credentialBundlePath": "credentials.pem",
                }}]},
            }],
        },
    })
}

fn stub(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// Every kind of key and both ends of a life: the API server takes the status, and the chain
/// verifies.
#[tokio::test(flavor = "multi_thread")]
async fn a_pods_kubelet_gets_its_certificate() {
    let pods = Pods::new("pods-signed", "").await;
    let running = pods.scene.setup.serve().await;
    let rsa = |size| KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap();
    let of = |kind| KeyPair::generate_for(kind).unwrap();
    for (key, seconds) in [
        (of(&PKCS_ECDSA_P256_SHA256), 3600),
        (of(&PKCS_ECDSA_P384_SHA384), 86_400),
        (of(&PKCS_ED25519), 7_862_400),
        (rsa(RsaKeySize::_3072), 3601),
    ] {
        let name = pods
            .make(&stub(&key), |object| {
                object["spec"]["maxExpirationSeconds"] = seconds.into();
            })
            .await
            .unwrap();
        let (object, kind, reason) = pods.answer(&name).await;
        assert_eq!(kind, "Issued", "{reason}: {object:?}");
        let status = object.status.unwrap();
        let chain = status.certificate_chain.unwrap();
        pods.scene.verify(&chain);
        let leaf = parse_pem_chain(chain.as_bytes()).unwrap().remove(0);
        let names: Vec<_> = leaf.names().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["spiffe://cluster.local/ns/pods-signed/sa/web"]);
        let life = leaf.not_after().since(leaf.not_before());
        assert!(life <= Duration::from_secs(seconds), "{life:?}");
        assert!(
            life >= Duration::from_secs(seconds.min(90 * 86_400)),
            "{life:?}"
        );
        let (begin, refresh) = (status.not_before.unwrap(), status.begin_refresh_at.unwrap());
        let share = refresh.0.duration_since(begin.0).as_secs_f64() / life.as_secs_f64();
        assert!((0.59..0.76).contains(&share), "{share}");
    }
    let rows = pods.scene.setup.certificates(&[]);
    let ours = rows
        .iter()
        .filter(|row| row.to_string().contains("PodCertificateRequest"));
    assert_eq!(ours.count(), 4);
    running.stop().await;
}

/// DNS names of a profile's template, which need rules as every name does.
#[tokio::test(flavor = "multi_thread")]
async fn dns_names_are_held_to_policy() {
    let rule = "\n[[policy.rules]]\ncallers = [\"spiffe://cluster.local/ns/pods-dns/sa/*\"]\n\
                profiles = [\"workload\"]\nnames = [\"self\", \"dns:*.pods-dns.svc\"]\n";
    let pods = Pods::new("pods-dns", rule).await;
    let setup = &pods.scene.setup;
    setup.edit(
        "[pod_signers.pods]\n",
        "[pod_signers.pods]\ndns_names = [\"{account}.{namespace}.svc\"]\n",
    );
    let running = setup.serve().await;
    let key = KeyPair::generate().unwrap();
    let name = pods.make(&stub(&key), |_| {}).await.unwrap();
    let (object, kind, _) = pods.answer(&name).await;
    assert_eq!(kind, "Issued");
    let chain = object.status.unwrap().certificate_chain.unwrap();
    let leaf = parse_pem_chain(chain.as_bytes()).unwrap().remove(0);
    let names: Vec<_> = leaf.names().iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "spiffe://cluster.local/ns/pods-dns/sa/web",
            "dns:web.pods-dns.svc"
        ]
    );
    running.stop().await;
}

/// Each refusal is taken by the API server, with nothing else in the status.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_denied_or_failed() {
    let pods = Pods::new(
        "pods-refused",
        "\n[profiles.brief]\nmax_ttl = \"30m\"\ndefault_ttl = \"30m\"\n",
    )
    .await;
    let setup = &pods.scene.setup;
    setup.edit(
        "[profiles.short]",
        "[profiles.p384]\nkeys = [\"ecdsa-p384\"]\n\n[profiles.short]",
    );
    setup.edit(
        "profile = \"workload\"\n\n[profiles.server]",
        "profile = \"p384\"\n\n[profiles.server]",
    );
    let running = setup.serve().await;
    let p256 = KeyPair::generate().unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let mut asking = CertificateParams::default();
    let other = SanType::URI("spiffe://cluster.local/ns/bank/sa/till".try_into().unwrap());
    asking.subject_alt_names = vec![other];
    let asking = asking.serialize_request(&p384).unwrap().der().to_vec();
    let none = |_: &mut Value| {};
    let wants = |object: &mut Value| {
        object["spec"]["unverifiedUserAnnotations"] = json!({ "d.example/names": "more" });
    };
    let cases: [(&[u8], Change<'_>, &str); 3] = [
        (&stub(&p256), &none, "UnsupportedKeyType"),
        (&stub(&p384), &wants, "InvalidUnverifiedUserAnnotations"),
        (&asking, &none, "StubRequestNotEmpty"),
    ];
    for (stub, change, wanted) in cases {
        let name = pods.make(stub, |object| change(object)).await.unwrap();
        let (object, kind, reason) = pods.answer(&name).await;
        assert_eq!((kind.as_str(), reason.as_str()), ("Denied", wanted));
        assert_eq!(object.status.unwrap().certificate_chain, None);
    }
    running.stop().await;

    // A profile that gives less than the API server takes.
    setup.edit(
        "profile = \"p384\"\n\n[profiles.server]",
        "profile = \"brief\"\n\n[profiles.server]",
    );
    let running = setup.serve().await;
    let name = pods.make(&stub(&p384), |_| {}).await.unwrap();
    let (_, kind, reason) = pods.answer(&name).await;
    assert_eq!(
        (kind.as_str(), reason.as_str()),
        ("Failed", "LifetimeNotAllowed")
    );

    // The API server itself takes neither small keys nor another node's pods.
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let refused = pods
        .make(&stub(&rsa), |_| {})
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("3072 or 4096"), "{refused}");
    let foreign = |object: &mut Value| object["spec"]["nodeName"] = "elsewhere".into();
    let refused = pods
        .make(&stub(&p384), foreign)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("Forbidden") && refused.contains("node"),
        "{refused}"
    );
    assert_eq!(
        pods.scene
            .recorded("spiffe://cluster.local/ns/pods-refused/sa/web"),
        (0, 0)
    );
    running.stop().await;
}

/// A server that has v1beta1 alone, and a request that is a key and its proof. The Node authorizer
/// of this version would wait for v1 for ever, so the administrator makes the request.
#[tokio::test(flavor = "multi_thread")]
async fn the_older_version_is_served_too() {
    use rcgen::{PublicKeyData as _, SigningKey as _};
    let server = ApiServer::with_flags(&[
        "--runtime-config=certificates.k8s.io/v1beta1/podcertificaterequests=true,\
         certificates.k8s.io/v1/podcertificaterequests=false",
        "--authorization-mode=RBAC",
    ]);
    let pods = Pods::on(&server, "pods-older", "").await;
    let running = pods.scene.setup.serve().await;
    let resource = ApiResource {
        group: "certificates.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "certificates.k8s.io/v1beta1".to_owned(),
        kind: "PodCertificateRequest".to_owned(),
        plural: "podcertificaterequests".to_owned(),
    };
    let key = KeyPair::generate().unwrap();
    let mut object = pods.template.clone();
    object["apiVersion"] = "certificates.k8s.io/v1beta1".into();
    let uid = object["spec"]["podUID"].as_str().unwrap().to_owned();
    object["spec"]["pkixPublicKey"] = json!(ByteString(key.subject_public_key_info()));
    let proof = key.sign(uid.as_bytes()).unwrap();
    object["spec"]["proofOfPossession"] = json!(ByteString(proof));
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let namespaced = |client: &Client| -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), "pods-older", &resource)
    };
    let mut name = None;
    eventually(PATIENCE, "the pod is seen", async || {
        let (api, how) = (namespaced(&pods.scene.admin), PostParams::default());
        let made = api.create(&how, &object).await;
        name = made.ok().map(|made| made.name_any());
        name.is_some()
    })
    .await;
    let name = name.unwrap();
    let api = namespaced(&pods.scene.admin);
    let mut status = Value::Null;
    eventually(PATIENCE, "an answer", async || {
        status = api.get(&name).await.unwrap().data["status"].clone();
        status["conditions"].is_array()
    })
    .await;
    assert_eq!(status["conditions"][0]["type"], "Issued", "{status}");
    pods.scene
        .verify(status["certificateChain"].as_str().unwrap());
    running.stop().await;
}
