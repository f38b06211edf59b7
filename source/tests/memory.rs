//! What any megabyte of a manifests file costs: each hostile text is read in a process of its own, whose greatest size counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

use ferrolb_source::files::document;
use ferrolb_source::memory;

/// The size of every text, in bytes.
const SIZE: usize = 1 << 20;
/// The greatest size that the process may have, in kilobytes.
const MOST: u64 = 100_000;
/// The greatest size that it may have afterwards, in kilobytes. Program and libraries take half of it.
const LEFT: u64 = 16_000;
/// Names the text that a child process reads.
const TEXT: &str = "FERROLB_TEXT";

const SERVICE: &str =
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n";

/// Repeats a text until the size is reached.
fn fill(text: &str) -> String {
    text.repeat(SIZE / text.len())
}

/// The same with a number in the place of `#`.
fn count(text: &str) -> String {
    let mut all = String::new();
    let mut number = 0;
    while all.len() < SIZE - 100 {
        all += &text.replace('#', &number.to_string());
        number += 1;
    }
    all
}

/// An object of this kind whose field `spec` begins like this, filled with items.
fn object(kind: &str, head: &str, item: &str) -> String {
    format!(
        "apiVersion: {kind}\nmetadata: {{name: a, namespace: metallb-system}}\n{head}\n{}",
        count(item)
    )
}

/// A scalar of half the size, and as many aliases of it as fit.
fn aliases() -> String {
    let scalar = "a".repeat(SIZE / 2);
    format!("a: &a {scalar}\nb:\n{}", "- *a\n".repeat(SIZE / 2 / 5))
}

/// Each anchor holds ten aliases of the one before.
fn laughs() -> String {
    let mut all = "a0: &a0 [lol]\n".to_owned();
    for level in 1..60 {
        let before = vec![format!("*a{}", level - 1); 10].join(", ");
        all += &format!("a{level}: &a{level} [{before}]\n");
    }
    all
}

/// Each text with its name. Only the one that is asked for is made.
fn text(name: &str) -> Option<String> {
    let pool = "metallb.io/v1beta1\nkind: IPAddressPool";
    let service = "v1\nkind: Service";
    let slice = "discovery.k8s.io/v1\nkind: EndpointSlice";
    let endpoints = "addressType: IPv4\nendpoints:";
    Some(match name {
        "nothing but brackets" => fill("["),
        "nothing but braces" => fill("{a: "),
        "empty maps" => fill("- {}\n"),
        "small lists" => fill("- [1, 2, 3]\n"),
        "documents with wrong kinds" => fill("---\nkind: a\n"),
        "Services" => count(&SERVICE.replace("name: a", "name: a#")),
        "keys" => count("k#: v\n"),
        "nested keys" => count("k#: {a: {b: {c: d}}}\n"),
        "anchors" => count("- &a# b\n- *a#\n"),
        "one long scalar" => format!("a: {}", fill("b")),
        "one long quoted scalar" => format!("a: \"{}\"", fill("\\u0041")),
        "a long scalar with aliases" => aliases(),
        "aliases of aliases" => laughs(),
        "comments" => fill("#a\n"),
        "tags" => fill("- !a b\n"),
        "zero bytes" => fill("\0"),
        "ranges" => object(pool, "spec:\n  addresses:", "  - 10.#.0.1-10.0.0.2\n"),
        "addresses" => object(pool, "spec:\n  addresses:", "  - fd00::#/128\n"),
        "unknown fields" => object(service, "spec: {ports: [{port: 80}]}\nx:", "  l#: a\n"),
        "labels" => object(service, "spec: {selector: {a: b}}\nlabels:", "  l#: a\n"),
        "ports" => object(service, "spec:\n  ports:", "  - {name: p#, port: 80}\n"),
        "endpoints" => object(
            slice,
            endpoints,
            "- {addresses: [10.0.0.1], nodeName: n#}\n",
        ),
        "wrong endpoints" => object(slice, endpoints, "- {adresses: [#]}\n"),
        "a List" => {
            let item = "- {apiVersion: v1, kind: Service, metadata: {name: a#}}\n";
            format!("apiVersion: v1\nkind: List\nitems:\n{}", count(item))
        }
        _ => return None,
    })
}

const NAMES: [&str; 24] = [
    "nothing but brackets",
    "nothing but braces",
    "empty maps",
    "small lists",
    "documents with wrong kinds",
    "Services",
    "keys",
    "nested keys",
    "anchors",
    "one long scalar",
    "one long quoted scalar",
    "a long scalar with aliases",
    "aliases of aliases",
    "comments",
    "tags",
    "zero bytes",
    "ranges",
    "addresses",
    "unknown fields",
    "labels",
    "ports",
    "endpoints",
    "wrong endpoints",
    "a List",
];

/// A line of `/proc/self/status` in kilobytes.
fn own(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

/// The child's part: reads the text that the parent names.
#[test]
fn child() {
    let Ok(name) = std::env::var(TEXT) else {
        return;
    };
    memory::keep_little();
    let text = text(&name).unwrap();
    drop(document::read("a.yaml", "default", &text));
    drop(text);
    memory::give_back();
    println!("peak {} left {}", own("VmHWM"), own("VmRSS"));
}

/// The greatest size of a process that reads a text, and its size afterwards, in kilobytes.
fn measure(name: &str) -> (u64, u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(TEXT, name)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    let (_, numbers) = said.split_once("peak ").expect(name);
    let mut numbers = numbers.split_whitespace();
    let mut number = |at| -> u64 { numbers.nth(at).unwrap().parse().unwrap() };
    (number(0), number(1))
}

#[test]
fn no_megabyte_of_input_makes_a_process_larger_than_a_hundred() {
    let workers = std::thread::available_parallelism().unwrap().get();
    let share = NAMES.len().div_ceil(workers);
    let mut sizes: Vec<(u64, u64, &str)> = std::thread::scope(|scope| {
        let workers: Vec<_> = NAMES
            .chunks(share)
            .map(|names| scope.spawn(|| names.iter().map(|n| (measure(n), *n)).collect::<Vec<_>>()))
            .collect();
        let measured = workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap());
        measured
            .map(|((peak, left), name)| (peak, left, name))
            .collect()
    });
    sizes.sort();
    sizes.reverse();
    for (peak, left, name) in &sizes {
        println!(
            "{:>4} MB at most, {:>4} MB afterwards: {name}",
            peak / 1000,
            left / 1000
        );
    }
    assert!(sizes[0].0 < MOST, "{sizes:?}");
    let left: Vec<_> = sizes.iter().filter(|(_, left, _)| *left > LEFT).collect();
    assert!(left.is_empty(), "not given back: {left:?}");
}
