//! The keys of a plane: a certificate authority, the API server's certificate, and the key that signs service account tokens. All
//! are elliptic-curve keys, because generating an RSA key takes seconds under emulation.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::need::find_tool;

/// Names and addresses under which the API server is reached: natively, from a VM's guest, from the lab's nodes, from pods.
const SUBJECT_ALT_NAMES: &str = "IP:127.0.0.1,IP:10.0.2.2,IP:172.17.0.2,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc";

/// Creates `ca.crt`, `ca.key`, `server.crt`, `server.key`, `sa.key` and `sa.pub` in a folder.
pub(super) fn make(folder: &Path) {
    // Uses its own configuration: the distribution's adds extensions, and verifiers reject a duplicate extension.
    let config = format!(
        "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = kubernetes\n\
         [authority]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n\
         [server]\nbasicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\nextendedKeyUsage = serverAuth\n\
         subjectAltName = {SUBJECT_ALT_NAMES}\n"
    );
    fs::write(folder.join("openssl.cnf"), config).expect("a file can be written");
    let new_key = "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(
        folder,
        &format!("{new_key} -extensions authority -subj /CN=lab-ca -keyout ca.key -out ca.crt"),
    );
    openssl(
        folder,
        &format!(
            "{new_key} -extensions server -CA ca.crt -CAkey ca.key -keyout server.key -out server.crt"
        ),
    );
    openssl(
        folder,
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out sa.key",
    );
    openssl(folder, "pkey -in sa.key -pubout -out sa.pub");
}

#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    let program = find_tool("openssl").unwrap_or_else(|| "openssl".into());
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "openssl {arguments}: {}\n{errors}",
        output.status
    );
}
