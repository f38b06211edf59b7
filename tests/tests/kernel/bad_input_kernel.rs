//! Bad input while a node serves: there is one problem that names what is wrong, and not a single request is lost on what is
//! programmed.

use std::time::Duration;

use ferrolb_tests::need;
use ferrolb_tests::need::Need;
use ferrolb_tests::node;
use ferrolb_tests::wait;
use serde_json::Value;

use crate::foreign::essence;
use crate::restart_load::Load;
use crate::restart_solo::{Solo, service};

/// How many answers each stream must get while something is wrong.
const PHASE: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(10);

fn problems(solo: &Solo) -> Result<Vec<Value>, String> {
    let status = solo.node.status(&solo.setup)?;
    Ok(node::problems(&status))
}

/// Waits until there is exactly one problem in this file, whose object and field contain these texts.
fn one_problem(solo: &Solo, file: &str, object: &str, field: &str) {
    wait::expect(&format!("one problem with {file}"), PATIENCE, || {
        let all = problems(solo)?;
        let has = |key: &str, text: &str| all[0][key].as_str().unwrap_or_default().contains(text);
        if all.len() == 1 && has("origin", file) && has("object", object) && has("field", field) {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    });
}

fn no_problem(solo: &Solo) {
    wait::expect("no problem", PATIENCE, || {
        match problems(solo)?.as_slice() {
            [] => Ok(()),
            rest => Err(format!("{rest:?}")),
        }
    });
}

/// Waits until a Service is refused with a message that contains this text.
fn refused(solo: &Solo, name: &str, said: &str) {
    wait::expect(&format!("{name} is refused"), PATIENCE, || {
        let service = solo.service(name)?;
        let named = service["message"]
            .as_str()
            .is_some_and(|text| text.contains(said));
        if service["state"] == "Refused" && named {
            Ok(())
        } else {
            Err(service.to_string())
        }
    });
}

fn pool(name: &str, range: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, namespace: metallb-system}}\n\
         spec: {{addresses: [\"{range}\"]}}\n"
    )
}

#[test]
fn what_is_programmed_outlives_every_bad_manifest() {
    need!(
        "what_is_programmed_outlives_every_bad_manifest",
        Need::Root,
        Need::IpVs,
        Need::Nft,
        Need::Ferrolb,
        Need::Tool("ipvsadm")
    );
    let mut solo = Solo::new("bad-input");
    solo.start();
    no_problem(&solo);
    let before = solo.kernel();
    let load = Load::start(solo.traffic());

    // Each of these valid files is broken in place and restored.
    let broken = [
        ("web.yaml", "kind: [Service\n".to_owned(), "", ""),
        (
            "pool.yaml",
            pool("default", "172.17.255.99-172.17.255.1"),
            "default",
            "addresses",
        ),
        (
            "pool.yaml",
            pool("default", "172.17.255.1-fd00:17::9"),
            "default",
            "addresses",
        ),
    ];
    for (file, text, object, field) in broken {
        let path = solo.manifests.path().join(file);
        let good = std::fs::read_to_string(&path).unwrap();
        solo.manifests.write(file, &text);
        one_problem(&solo, file, object, field);
        load.pass(PHASE);
        before.same(&solo.kernel(), &format!("while {file} is {text}"));
        solo.manifests.write(file, &good);
        no_problem(&solo);
    }
    // A pool that overlaps with another pool.
    solo.manifests.write(
        "overlap.yaml",
        &pool("overlap", "172.17.255.50-172.17.255.150"),
    );
    one_problem(&solo, "overlap.yaml", "overlap", "addresses");
    load.pass(PHASE);
    before.same(&solo.kernel(), "while pools overlap");
    solo.manifests.remove("overlap.yaml");
    no_problem(&solo);

    // Services that cannot have what they ask for. Each gets its ClusterIP, so something is added, but nothing is removed.
    let outside = "203.0.113.9".parse().unwrap();
    let text = service("outside", outside, "", "  - {port: 80}\n");
    solo.manifests.write("outside.yaml", &text);
    let clash = crate::restart_solo::WEB;
    solo.manifests.write(
        "clash.yaml",
        &service("clash", clash, "", "  - {port: 80}\n"),
    );
    refused(&solo, "outside", "203.0.113.9");
    refused(&solo, "clash", &clash.to_string());
    for (file, field) in [("outside.yaml", "loadBalancerIP"), ("clash.yaml", "")] {
        wait::until(&format!("one problem with {file}"), PATIENCE, || {
            let of_file = |problem: &&Value| {
                let has = |key: &str, text: &str| {
                    problem[key].as_str().unwrap_or_default().contains(text)
                };
                has("origin", file) && has("object", "Service default/") && has("field", field)
            };
            problems(&solo)
                .is_ok_and(|all| all.len() == 2 && all.iter().filter(of_file).count() == 1)
        });
    }
    load.pass(PHASE);
    let now = solo.kernel();
    for (old, new) in [(&before.ipvs, &now.ipvs), (&before.dummy, &now.dummy)] {
        let lost: Vec<&str> = old
            .lines()
            .filter(|line| !new.lines().any(|there| there == *line))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
    solo.manifests.remove("outside.yaml");
    solo.manifests.remove("clash.yaml");
    wait::until("both are gone from the kernel", PATIENCE, || {
        essence(&solo.kernel()) == essence(&before)
    });

    let load = the_folder_goes_and_comes_back(&solo, load);
    assert!(essence(&solo.kernel()) == essence(&before), "at the end");
    println!("bad input: {}", load.finish());
}

fn the_folder_goes_and_comes_back(solo: &Solo, load: Load) -> Load {
    let before = solo.kernel();
    let (path, aside) = (solo.manifests.path(), solo.folder().join("aside"));
    std::fs::rename(path, &aside).unwrap();
    wait::expect("a problem with the folder", PATIENCE, || {
        let all = problems(solo)?;
        match all.as_slice() {
            [one] if one.to_string().contains("manifests folder") => Ok(()),
            _ => Err(format!("{all:?}")),
        }
    });
    load.pass(PHASE);
    before.same(&solo.kernel(), "without a manifests folder");
    std::fs::rename(&aside, path).unwrap();
    no_problem(solo);
    load.pass(PHASE);
    before.same(&solo.kernel(), "with the folder back");
    // Like `git checkout` or an editor: all files disappear and then reappear.
    let files: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let kept: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    for (file, text) in files.iter().zip(kept) {
        std::fs::write(file, text).unwrap();
    }
    load.pass(PHASE);
    no_problem(solo);
    before.same(&solo.kernel(), "with all files written again");
    load
}
