#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ferrolb_api::refusal::Refusal;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams, WatchParams};
use kube::{Api, Client, Config};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::access::{client_with, refusal};
use super::super::{ClusterSource, Resources, Settings};
use super::*;
use crate::Source;

/// So long that it never expires in a test that waits for something else.
const NEVER: Duration = Duration::from_secs(3600);
/// The longest that a test waits, even on a very busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the server does after it has read a request.
#[derive(Clone, Copy)]
enum Manner {
    /// Sends nothing.
    Silence,
    /// The head and half of a list, then nothing.
    Half,
    /// The head, then a little data at a time, for ever.
    Trickle,
    /// The head of an endless answer, then nothing.
    Open,
    /// The head of a watch, one event after a while, then nothing.
    LateEvent(Duration),
}

const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

async fn serve(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut request = [0; 8192];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    match manner {
        Manner::Silence => {}
        Manner::Open => stream.write_all(HEAD.as_bytes()).await?,
        Manner::Half => {
            stream.write_all(HEAD.as_bytes()).await?;
            let half = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":["#;
            stream.write_all(chunk(half).as_bytes()).await?;
        }
        Manner::Trickle => {
            stream.write_all(HEAD.as_bytes()).await?;
            loop {
                stream.write_all(chunk(" ").as_bytes()).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Manner::LateEvent(after) => {
            stream.write_all(HEAD.as_bytes()).await?;
            tokio::time::sleep(after).await;
            let object = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"late"}}"#;
            let event = format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
            stream.write_all(chunk(&event).as_bytes()).await?;
        }
    }
    // Stays open until the client disconnects.
    while stream.read(&mut request).await? != 0 {}
    Ok(())
}

/// A client of a server with this behaviour.
async fn of(manner: Manner, limits: Limits) -> Client {
    counted(manner, limits, Requests::default()).await
}

async fn counted(manner: Manner, limits: Limits, requests: Requests) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manner));
        }
    });
    client_with(Config::new(url.parse().unwrap()), limits, requests).unwrap()
}

const SHORT: Duration = Duration::from_millis(200);

/// Only silence has a short limit.
const SILENCE: Limits = Limits {
    silence: SHORT,
    whole: NEVER,
    grace: NEVER,
};
/// Only the whole answer has a short limit.
const WHOLE: Limits = Limits {
    silence: NEVER,
    whole: SHORT,
    grace: NEVER,
};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, what).await;
    done.expect("it is not waited for without end")
}

async fn listed(manner: Manner, limits: Limits) -> kube::Error {
    let maps: Api<ConfigMap> = Api::default_namespaced(of(manner, limits).await);
    soon(maps.list(&ListParams::default())).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let error = listed(Manner::Silence, SILENCE).await;
    assert_eq!(Late::of(&error), Some(Late::Silent(SHORT)), "{error:?}");
    let why = "no data arrived for 200ms".to_owned();
    assert_eq!(refusal(&error, "list"), Refusal::Unanswered { why });
}

#[tokio::test]
async fn a_list_that_stops_in_the_middle_is_given_up() {
    let error = listed(Manner::Half, SILENCE).await;
    assert_eq!(Late::of(&error), Some(Late::Silent(SHORT)), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_trickles_is_given_up_in_the_end() {
    let error = listed(Manner::Trickle, WHOLE).await;
    assert_eq!(Late::of(&error), Some(Late::Slow(SHORT)), "{error:?}");
}

#[tokio::test]
async fn a_write_that_is_not_answered_is_given_up() {
    let maps: Api<ConfigMap> = Api::default_namespaced(of(Manner::Silence, SILENCE).await);
    let patch = Patch::Merge(serde_json::json!({"data": {}}));
    let params = PatchParams::default();
    let error = soon(maps.patch("a", &params, &patch)).await.unwrap_err();
    assert_eq!(Late::of(&error), Some(Late::Silent(SHORT)), "{error:?}");
}

/// The first event of a one-second watch.
async fn watched(manner: Manner, limits: Limits) -> Result<String, kube::Error> {
    let maps: Api<ConfigMap> = Api::default_namespaced(of(manner, limits).await);
    let params = WatchParams::default().timeout(1);
    let mut events = soon(maps.watch(&params, "0")).await?.boxed();
    let event = soon(events.try_next()).await?;
    Ok(format!("{event:?}"))
}

#[tokio::test]
async fn a_watch_that_does_not_begin_is_given_up() {
    let error = watched(Manner::Silence, SILENCE).await.unwrap_err();
    assert_eq!(Late::of(&error), Some(Late::Silent(SHORT)), "{error:?}");
}

#[tokio::test]
async fn a_watch_that_the_server_does_not_end_is_ended() {
    let limits = Limits {
        silence: NEVER,
        whole: NEVER,
        grace: SHORT,
    };
    for manner in [Manner::Open, Manner::Trickle] {
        let error = watched(manner, limits).await.unwrap_err();
        let whole = Duration::from_secs(1) + SHORT;
        assert_eq!(Late::of(&error), Some(Late::Endless(whole)), "{error:?}");
    }
}

#[tokio::test]
async fn a_watch_may_be_silent_for_longer_than_a_list() {
    let limits = Limits {
        silence: SHORT,
        whole: SHORT,
        grace: NEVER,
    };
    let event = watched(Manner::LateEvent(SHORT * 3), limits).await.unwrap();
    assert!(event.contains("Added"), "{event}");
}

#[tokio::test]
async fn a_source_says_which_lists_an_api_server_that_says_nothing_owes_it() {
    let client = of(Manner::Silence, SILENCE).await;
    let mut source = ClusterSource::new(&client, &Settings::new(Resources::Controller));
    let owes = |source: &ClusterSource| match source.waits_for().as_slice() {
        [all] => {
            all.ends_with("does not answer (no data arrived for 200ms)")
                && all.matches(", ").count() == 5
        }
        _ => false,
    };
    soon(async {
        while !owes(&source) {
            let first = tokio::time::timeout(Duration::from_millis(50), source.next()).await;
            assert!(first.is_err(), "there is no list");
        }
    })
    .await;
}

#[test]
fn an_ordinary_request_and_a_watch_have_different_deadlines() {
    let (limits, now) = (Limits::default(), Instant::now());
    let of = |uri: &str| {
        let deadline = limits.of(&uri.parse().unwrap(), now);
        (deadline.silence, deadline.end - now)
    };
    let (silence, whole, grace) = (limits.silence, limits.whole, limits.grace);
    for uri in [
        "/version",
        "/api/v1/nodes?limit=500",
        "/api/v1/nodes?watch=false",
    ] {
        assert_eq!(of(uri), (Some(silence), whole), "{uri}");
    }
    let watch = "/api/v1/nodes?&watch=true&timeoutSeconds=120&resourceVersion=7";
    assert_eq!(of(watch), (None, Duration::from_secs(120) + grace));
    assert_eq!(of("/api/v1/nodes?watch=1"), (None, whole + grace));
}

#[tokio::test]
async fn requests_are_counted_by_how_they_ended() {
    let requests = Requests::to("lb.example:6443".to_owned());
    for manner in [Manner::Half, Manner::Half, Manner::Silence] {
        let client = counted(manner, SILENCE, requests.clone()).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        soon(maps.list(&ListParams::default())).await.unwrap_err();
    }
    let mut registry = Registry::default();
    requests.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for (code, count) in [("200", 2), ("<error>", 1)] {
        let line = format!(
            "rest_client_requests_total{{code=\"{code}\",method=\"GET\",host=\"lb.example:6443\"}} {count}"
        );
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}
