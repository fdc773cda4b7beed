//! The error that a proxy gets when something behind Rootbridge fails: always one, and in time.

use std::time::{Duration, Instant};

use http::Method;
use tonic::Code;

use super::proxy::{Proxy, code, name, path, request, take};
use super::{LISTENER, Scene};
use crate::faulty_proxy::{Faulty, How};
use rootbridge_test_support::csr::KeyAndCsr;
use rootbridge_test_support::{PATIENCE, TD, eventually};

const REVIEWS: &str = "/tokenreviews";

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_fails_and_one_that_is_slow() {
    let scene = Scene::new("certify-api").await;
    let head = "[clusters.east]\n";
    scene
        .setup
        .edit(head, &format!("{head}review_timeout = \"1s\"\n"));
    let faulty = Faulty::before(&scene.setup, "east").await;
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&name(scene.ns, "app")]);
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let ask = async || code(&proxy.own((scene.ns, "app"), &token, &csr).await);
    assert_eq!(ask().await, Code::Ok);
    for status in [500, 403, 429] {
        faulty.next(1, Method::POST, REVIEWS, How::Status(status));
        assert_eq!(ask().await, Code::Internal, "{status}");
        assert_eq!(faulty.left(), 0);
    }
    let slow = How::Timeout(Duration::from_secs(120));
    faulty.next(1, Method::POST, REVIEWS, slow);
    let started = Instant::now();
    assert_eq!(ask().await, Code::Unavailable);
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(ask().await, Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_issuer_it_is_unavailable() {
    let scene = Scene::new("certify-none").await;
    let east = format!("\ntrust_domain = \"{TD}\"\nkubeconfig");
    scene.setup.edit(&east, &east.replace(TD, "new.example"));
    let own = name(scene.ns, "app").replace(TD, "new.example");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let refused = proxy.certify(request(&own, &token, &csr)).await;
    assert_eq!(code(&refused), Code::Unavailable, "{refused:?}");
    scene.setup.init("new.example", &[]);
    eventually(PATIENCE, "the new authority", async || {
        proxy.certify(request(&own, &token, &csr)).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_hsm_delays_no_other_call_and_queues_nothing() {
    /// Fewer than the streams that one connection may have.
    const CALLS: usize = 90;
    let scene = Scene::new("certify-hsm").await;
    let listener = "[listeners.identity]\n";
    let bound = "[listeners.identity.linkerd]\nanswer_within = \"2s\"\n\n";
    scene.setup.edit(listener, &format!("{bound}{listener}"));
    scene.setup.edit("queue = 256", "queue = 32");
    scene.setup.edit("deadline = \"5s\"", "deadline = \"10m\"");
    let command = scene.setup.use_faulty_module();
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let mut first = None;
    // Two seconds may be too few on a machine that has just started.
    eventually(PATIENCE, "a certificate in time", async || {
        first = proxy.own((scene.ns, "app"), &token, &csr).await.ok();
        first.is_some()
    })
    .await;
    take(&first.unwrap(), &own, &csr, &scene.anchors());

    command("sign_ms 600000\n");
    for _ in 0..4 {
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let (proxy, request) = (proxy.clone(), request(&own, &token, &csr));
                tokio::spawn(async move {
                    let started = Instant::now();
                    (code(&proxy.certify(request).await), started.elapsed())
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let open = server.metric("rootbridge_issuances_under_way").await;
        let open = open.unwrap();
        assert!(
            open <= 34.0,
            "{open} are open: a queue of 32, and 2 workers"
        );
        for call in calls {
            let (code, took) = call.await.unwrap();
            assert_eq!(code, Code::Unavailable);
            assert!(took < PATIENCE, "{took:?}");
        }
    }

    command("");
    eventually(PATIENCE, "it signs again", async || {
        proxy.own((scene.ns, "app"), &token, &csr).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_answered_on_the_next_try() {
    const PROXIES: usize = 20;
    let scene = Scene::new("certify-restart").await;
    let port = rootbridge_test_support::free_port();
    let fixed = LISTENER.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    scene.setup.edit(LISTENER, &fixed);
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let mut server = scene.setup.serve().await;
    let mut proxies = Vec::new();
    for _ in 0..PROXIES {
        let proxy = scene.proxy(&server).await;
        assert!(proxy.own((scene.ns, "app"), &token, &csr).await.is_ok());
        proxies.push(proxy);
    }
    for violent in [true, false] {
        let asking: Vec<_> = proxies
            .iter()
            .map(|proxy| {
                let (proxy, request) = (proxy.clone(), request(&own, &token, &csr));
                tokio::spawn(async move {
                    for _ in 0..20 {
                        // Answered or not, but never left without an end.
                        let _ = proxy.certify(request.clone()).await;
                    }
                })
            })
            .collect();
        match violent {
            true => server.kill(),
            false => server.stop().await,
        }
        for each in asking {
            each.await.unwrap();
        }
        server = scene.setup.serve().await;
        for proxy in &proxies {
            let outcome = proxy.own((scene.ns, "app"), &token, &csr).await;
            assert_eq!(code(&outcome), Code::Ok, "{outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_proxy_is_answered() {
    let scene = Scene::new("certify-expired").await;
    let listener = "[listeners.identity]\n";
    let short = "[listeners.identity.linkerd]\nprofile = \"short\"\n\n";
    scene.setup.edit(listener, &format!("{short}{listener}"));
    let own = name(scene.ns, "app");
    let token = scene.token().await;
    let csr = KeyAndCsr::new(&[&own]);
    let server = scene.setup.serve().await;
    let proxy = scene.proxy(&server).await;
    let answer = proxy.own((scene.ns, "app"), &token, &csr).await.unwrap();
    let leaf = rootbridge::x509::Certificate::parse(answer.leaf_certificate.clone()).unwrap();
    let end = u64::try_from(leaf.not_after().secs()).unwrap();
    eventually(PATIENCE, "its end", async || super::proxy::now() > end + 1).await;

    let port = server.port_of("identity");
    let anchors = scene.anchors();
    let late = Proxy::connect(port, &anchors, Some((path(&answer), &csr)));
    let late = late.await.unwrap();
    let again = late.own((scene.ns, "app"), &token, &csr).await.unwrap();
    take(&again, &own, &csr, &anchors);
}
