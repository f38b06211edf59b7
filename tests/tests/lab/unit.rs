//! The unit of `deploy/systemd`: its command, with its paths and its rights, starts a node on a machine where nothing was prepared.

use std::process::Command;
use std::time::Duration;

use ferrolb_tests::lan::Lan;
use ferrolb_tests::need;
use ferrolb_tests::need::{Need, find_tool};
use ferrolb_tests::node::problems;
use ferrolb_tests::paths::{TempDir, ferrolb, workspace};
use ferrolb_tests::process::Process;
use ferrolb_tests::wait;

/// The values of a key of the unit, one for each line.
fn values(unit: &str, key: &str) -> Vec<String> {
    let values: Vec<String> = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::to_owned)
        .collect();
    assert!(!values.is_empty(), "the unit has no {key}");
    values
}

#[test]
fn the_unit_starts_as_shipped() {
    need!(
        "the_unit_starts_as_shipped",
        Need::Root,
        Need::Ferrolb,
        Need::Tool("setpriv"),
        Need::Tool("unshare")
    );
    let unit = workspace().join("deploy/systemd/ferrolb.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    // Like systemd: the folders that it makes, on a machine that has none of them.
    let folders: String = [
        ("ConfigurationDirectory", "/etc"),
        ("StateDirectory", "/var/lib"),
        ("RuntimeDirectory", "/run"),
    ]
    .iter()
    .map(|(key, place)| format!(" {place}/{}", values(&unit, key)[0]))
    .collect();
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir /run/upper /run/work && \
         mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc && \
         mount -t tmpfs tmpfs /var/lib && mkdir{folders} && exec \"$@\""
    );
    let tool = |name: &str| find_tool(name).unwrap().display().to_string();
    let rights: String = values(&unit, "CapabilityBoundingSet")[0]
        .split(' ')
        .map(|right| format!(",+{}", right.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let mut arguments: Vec<String> = ["--mount", "sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .into();
    arguments.extend([
        tool("setpriv"),
        "--no-new-privs".to_owned(),
        format!("--bounding-set=-all{rights}"),
    ]);
    let command = values(&unit, "ExecStart")[0].clone();
    let mut words = command.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/ferrolb"));
    arguments.push(ferrolb().display().to_string());
    for word in words {
        match word {
            // IPVS is not part of this tier.
            "$FERROLB_ARGS" => arguments.extend(["--proxy", "none"].map(str::to_owned)),
            word => arguments.push(word.to_owned()),
        }
    }

    let folder = TempDir::new("unit");
    let mut lan = Lan::new();
    let host = lan.plug("unit", 11);
    let log = folder.path().join("log");
    let unshare = find_tool("unshare").unwrap();
    let node = Process::start(&host.netns, "node", &unshare, &arguments, &log);
    let socket = format!("/proc/{}/root/run/ferrolb/node.sock", node.pid());
    wait::expect("it serves", Duration::from_secs(20), || {
        let status = Command::new(ferrolb())
            .args(["status", "-o", "json", "--socket", &socket])
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        let status: serde_json::Value = serde_json::from_str(&said).map_err(|e| e.to_string())?;
        if status["settled"] == true && problems(&status).is_empty() {
            Ok(())
        } else {
            Err(said)
        }
    });
    let log = node.log();
    assert!(log.contains("addresses=[172.17.0.11]"), "{log}");
    let manual = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    for path in ["--manifests /etc/ferrolb ", "--state /var/lib/ferrolb "] {
        assert!(command.contains(path) && manual.contains(path), "{path}");
    }
}
