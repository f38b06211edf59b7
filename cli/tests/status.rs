//! What `ferrolb status --kubeconfig` says where a cluster does not answer as it should, and how soon.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

/// Code and body of an answer, by the path that is asked for.
type Answer = fn(&str) -> (u16, String);

const FILE: &str = "FILE";

/// A server that answers as it is told for as long as the test runs.
fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || one(&stream, answer));
        }
    });
    server
}

fn one(mut stream: &TcpStream, answer: Answer) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let path = request.split(' ').nth(1)?;
    while !lines.next()?.ok()?.is_empty() {}
    let (code, body) = answer(path);
    let length = body.len();
    let head = format!("HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {length}\r\n");
    write!(stream, "{head}\r\n{body}").ok()
}

fn status(code: u16, reason: &str) -> (u16, String) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": format!("the message of {reason}"),
    });
    (code, status.to_string())
}

fn version() -> (u16, String) {
    let version = json!({
        "major": "1", "minor": "35", "gitVersion": "v1.35.0", "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "",
    });
    (200, version.to_string())
}

/// What it says on standard error; it ends with 1 and prints nothing else.
fn complaint(test: &str, answer: Answer) -> String {
    asked(test, answer, &["--kubeconfig", FILE], false)
}

/// The same with these arguments, where [`FILE`] stands for the kubeconfig. `named`: `$KUBECONFIG` names it too.
fn asked(test: &str, answer: Answer, arguments: &[&str], named: bool) -> String {
    let server = serve(answer);
    let kubeconfig = format!("{}/{test}.kubeconfig", env!("CARGO_TARGET_TMPDIR"));
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "of-somebody"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ferrolb"))
        .arg("status")
        .args(
            arguments
                .iter()
                .map(|a| if *a == FILE { &*kubeconfig } else { a }),
        )
        .env("KUBECONFIG", if named { &*kubeconfig } else { "" })
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(output.stdout.is_empty());
    assert!(errors.contains(&server), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

#[test]
fn a_token_that_is_not_accepted_is_told_as_such() {
    let told = complaint("token", |_| status(401, "Unauthorized"));
    assert!(told.contains("does not accept these credentials"), "{told}");
    assert!(!told.contains("does not answer"), "{told}");
    assert!(!told.contains("Status {"), "{told}");
}

#[test]
fn the_kubeconfig_is_the_one_that_kubectl_uses_unless_another_is_named() {
    let arguments: [&[&str]; 3] = [&["--kubeconfig"], &["--context", "c"], &[]];
    for (number, arguments) in arguments.iter().enumerate() {
        let test = format!("usual-{number}");
        let told = asked(&test, |_| status(401, "Unauthorized"), arguments, true);
        assert!(told.contains("does not accept these credentials"), "{told}");
    }
}

#[test]
fn a_server_that_is_no_api_server_is_told_as_such_without_its_page() {
    const PAGE: &str = "<!DOCTYPE html>\n<html>It works!</html>\n";
    let missing = complaint("missing", |_| (404, PAGE.repeat(100)));
    let found = complaint("found", |_| (200, PAGE.repeat(100)));
    for told in [missing, found] {
        assert!(told.contains("no Kubernetes API server"), "{told}");
        assert!(!told.contains("html"), "{told}");
    }
}

#[test]
fn all_rights_that_are_missing_are_told_together_and_soon() {
    let began = Instant::now();
    let told = complaint("rights", |path| match path {
        "/version" => version(),
        _ => status(403, "Forbidden"),
    });
    assert!(began.elapsed() < Duration::from_secs(6), "{told}");
    for what in ["services", "nodes", "l2advertisements.metallb.io"] {
        let right = format!("not allowed to list and watch {what}");
        assert!(told.contains(&right), "{told}");
    }
}
