#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// The answer to a request, and whether the port is open at all.
async fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    Some(text)
}

async fn get(port: u16, path: &str) -> Option<String> {
    ask(port, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

/// A port that was free a moment ago.
fn free() -> u16 {
    let listener = std::net::TcpListener::bind(("::", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn well(port: u16, local: usize) -> Health {
    Health {
        port,
        local,
        programmed: true,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

#[tokio::test]
async fn a_port_says_how_many_endpoints_the_node_has_until_nobody_asks_any_more() {
    let (mut doctor, port) = (Doctor::default(), free());
    doctor.service(&key("web"), Some(well(port, 2)));
    let answer = get(port, "/").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("x-load-balancing-endpoint-weight: 2\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with(
            r#"{"localEndpoints":2,"service":{"name":"web","namespace":"default"},"serviceProxyHealthy":true}"#
        ),
        "{answer}"
    );
    doctor.service(&key("web"), Some(well(port, 0)));
    let ill = get(port, "/healthz").await.unwrap();
    assert!(ill.starts_with("HTTP/1.1 503 "), "{ill}");
    assert!(ill.contains(r#""localEndpoints":0"#), "{ill}");
    let unprogrammed = Health {
        programmed: false,
        ..well(port, 2)
    };
    doctor.service(&key("web"), Some(unprogrammed));
    let ill = get(port, "/healthz").await.unwrap();
    assert!(ill.starts_with("HTTP/1.1 503 "), "{ill}");
    assert!(ill.contains(r#""serviceProxyHealthy":false"#), "{ill}");
    let moved = free();
    let health = well(moved, 1);
    doctor.service(&key("web"), Some(health));
    assert!(get(moved, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
    doctor.service(&key("web"), None);
    for port in [port, moved] {
        // The task ends when the runtime comes to it.
        while get(port, "/").await.is_some_and(|text| !text.is_empty()) {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(doctor.problems().count(), 0);
}

#[tokio::test]
async fn of_two_services_with_one_port_the_first_has_it_and_the_other_inherits_it() {
    let (mut doctor, port) = (Doctor::default(), free());
    doctor.service(&key("b"), Some(well(port, 1)));
    doctor.service(&key("a"), Some(well(port, 3)));
    assert!(get(port, "/").await.unwrap().contains(r#""name":"a""#));
    let problems: Vec<String> = doctor.problems().map(|p| p.to_string()).collect();
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with(
            "Service default/b: spec.healthCheckNodePort: Service default/a is asked about at port"
        ),
        "{problems:?}"
    );
    doctor.service(&key("a"), None);
    assert!(get(port, "/").await.unwrap().contains(r#""name":"b""#));
}

#[tokio::test]
async fn a_port_that_another_process_has_is_a_problem_until_it_is_free() {
    let taken = std::net::TcpListener::bind(("::", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut doctor = Doctor::default();
    doctor.service(&key("web"), Some(well(port, 1)));
    let said = doctor.problems().next().unwrap().to_string();
    assert!(said.contains("Address already in use"), "{said}");
    drop(taken);
    doctor.again(Instant::now());
    assert_eq!(doctor.problems().count(), 0);
    assert!(get(port, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_node_is_alive_at_once_and_ready_when_it_is_told_so() {
    let port = free();
    let mut doctor = Doctor::at(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    let code = async |path: &str| get(port, path).await.unwrap()[9..12].to_owned();
    assert_eq!(code("/livez").await, "200");
    assert_eq!(code("/healthz").await, "503");
    doctor.node(true, Instant::now());
    assert_eq!(code("/healthz").await, "200");
    assert_eq!(code("/").await, "404");
    doctor.node(false, Instant::now());
    assert_eq!(code("/healthz").await, "503");
    // Its Node object is being deleted: load balancers should send it nothing new, but it lives.
    let node = |leaving| {
        let node = ferrolb_api::view::Node {
            name: "a".to_owned(),
            leaving,
            ..Default::default()
        };
        Change::Upsert(Object::Node(node.into()))
    };
    let gone = Change::Remove(Kind::Node, ObjectKey::new("", "a"));
    for (change, me, expected) in [
        (node(true), "b", "200"),
        (node(true), "a", "503"),
        (node(false), "a", "200"),
        (gone, "a", "503"),
    ] {
        doctor.follow(&change, me);
        doctor.node(true, Instant::now());
        assert_eq!(code("/healthz").await, expected, "{change:?}");
        assert_eq!(code("/livez").await, "200");
    }
}

#[test]
fn a_node_whose_loop_has_stopped_is_neither_alive_nor_ready() {
    use ::http::{Method, StatusCode};
    let (then, time) = (
        Instant::now(),
        Timestamp::from_second(1_700_000_000).unwrap(),
    );
    let answer = Answer::Node(NodeHealth {
        well: true,
        eligible: true,
        seen: (then, time),
    });
    let later = |seconds: u64| {
        let time = time + Duration::from_secs(seconds);
        (then + Duration::from_secs(seconds), time)
    };
    for (seconds, code) in [(59, StatusCode::OK), (60, StatusCode::SERVICE_UNAVAILABLE)] {
        for path in ["/livez", "/healthz"] {
            let reply = answer.response(&Method::GET, path, later(seconds));
            assert_eq!(reply.status(), code, "{path} after {seconds} s");
        }
    }
}

#[tokio::test]
async fn the_fields_are_those_of_kube_proxy() {
    let port = free();
    let doctor = Doctor::at(Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
    doctor.node(true, Instant::now());
    for (path, names) in [
        (
            "/healthz",
            &["currentTime", "healthy", "lastUpdated", "nodeEligible"][..],
        ),
        ("/livez", &["currentTime", "healthy", "lastUpdated"]),
    ] {
        let answer = get(port, path).await.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).unwrap();
        assert_eq!(body.keys().map(String::as_str).collect::<Vec<_>>(), names);
        let time = body["currentTime"].as_str().unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
    }
}

#[tokio::test]
async fn whoever_says_nothing_or_nonsense_keeps_nobody_from_an_answer() {
    let (mut doctor, port) = (Doctor::default(), free());
    doctor.service(&key("web"), Some(well(port, 1)));
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    assert!(get(port, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(100_000));
    let nonsense = [
        "\0\u{1}\u{2}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789",
        &long,
    ];
    for text in nonsense {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // The server may have closed it before the end.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    drop(silent);
}

#[tokio::test]
async fn questions_about_the_node_are_counted_by_their_answers_and_those_about_services_are_not() {
    let (port, of_service) = (free(), free());
    let mut doctor = Doctor::at(Some((Ipv4Addr::LOCALHOST, port).into()));
    doctor.service(&key("web"), Some(well(of_service, 1)));
    for (port, path) in [
        (port, "/livez"),
        (port, "/healthz"),
        (port, "/healthz"),
        (port, "/elsewhere"),
        (of_service, "/healthz"),
    ] {
        get(port, path).await.unwrap();
    }
    doctor.node(true, Instant::now());
    get(port, "/healthz").await.unwrap();
    let mut registry = Registry::default();
    doctor.questions().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut counted: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    counted.sort_unstable();
    assert_eq!(
        counted,
        [
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 2",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
        ]
    );
}
