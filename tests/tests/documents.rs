//! Checks that what the documents say about the project is true, if a file can show it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

/// The crates of the product.
const CRATES: [&str; 7] = [
    "api",
    "source",
    "controller",
    "speaker",
    "proxy",
    "node",
    "cli",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// The names of the packages that the workspace chose: `serde_yaml = { package = "serde-saphyr" }` is serde-saphyr.
fn direct_dependencies() -> Vec<(String, String)> {
    let manifest = read("Cargo.toml");
    let (_, section) = manifest
        .split_once("[workspace.dependencies]\n")
        .expect("the section");
    let section = section.split("\n[").next().unwrap_or_default();
    let lines = section
        .lines()
        .filter(|l| !l.starts_with('#') && l.contains('='));
    let all: Vec<(String, String)> = lines
        .filter(|l| !l.starts_with("ferrolb-"))
        .map(|line| {
            let name = line.split('=').next().unwrap_or_default().trim().to_owned();
            let package = line
                .split_once("package = \"")
                .and_then(|(_, rest)| rest.split('"').next());
            (name.clone(), package.map_or(name, str::to_owned))
        })
        .collect();
    assert!(
        all.len() > 15,
        "only {} dependencies were found: {all:?}",
        all.len()
    );
    all
}

#[test]
fn every_direct_dependency_has_its_reason_in_the_architecture() {
    let architecture = read("ARCHITECTURE.md");
    let rows: Vec<&str> = architecture
        .lines()
        .filter(|l| l.starts_with("| "))
        .filter_map(|l| l.trim_start_matches("| ").split(" |").next())
        .collect();
    let without: Vec<_> = direct_dependencies()
        .into_iter()
        .filter(|(name, _)| {
            !rows
                .iter()
                .any(|cell| cell.split([',', ' ', '(', ')']).any(|word| word == name))
        })
        .collect();
    assert!(
        without.is_empty(),
        "no row in ARCHITECTURE.md for {without:?}"
    );
}

#[test]
fn no_direct_dependency_is_there_in_two_versions() {
    let lock = read("Cargo.lock");
    let twice: Vec<_> = direct_dependencies()
        .into_iter()
        .filter(|(_, package)| lock.matches(&format!("name = \"{package}\"\n")).count() != 1)
        .collect();
    assert!(twice.is_empty(), "not in exactly one version: {twice:?}");
}

#[test]
fn only_files_that_call_the_kernel_or_the_allocator_allow_unsafe_code() {
    let mut found = Vec::new();
    for krate in CRATES {
        walk(&root().join(krate).join("src"), &mut found);
    }
    let allowed: Vec<String> = found
        .iter()
        .filter(|file| {
            std::fs::read_to_string(file)
                .unwrap()
                .contains("allow(unsafe_code)")
        })
        .map(|file| file.display().to_string())
        .collect();
    assert!(found.len() > 50, "only {} files were found", found.len());
    let single = ["/node/src/thread.rs", "/source/src/memory.rs"];
    let expected =
        |f: &String| f.contains("/speaker/src/") || single.iter().any(|end| f.ends_with(end));
    assert!(
        allowed.iter().all(expected) && allowed.len() <= 5,
        "{allowed:?}"
    );
}

#[test]
fn the_product_starts_no_other_program() {
    let mut found = Vec::new();
    for krate in CRATES {
        walk(&root().join(krate).join("src"), &mut found);
    }
    for file in found {
        let text = std::fs::read_to_string(&file).unwrap();
        for word in ["process::Command", "Command::new(", "execv", "posix_spawn"] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}
