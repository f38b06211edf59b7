//! Access to an API server: its address, its authority and the users' tokens; and what clients derive from them: a kubeconfig, a
//! request with curl, a run of kubectl.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::programs::program;
use super::users::{self, User};
use crate::need::find_tool;

/// Address, authority and tokens.
#[derive(Debug, Clone)]
pub struct Access {
    /// The API server's address, as seen from here.
    pub server: SocketAddr,
    /// The authority that issued its certificate.
    pub ca: PathBuf,
    tokens: BTreeMap<User, String>,
    // Belongs to the caller; holds kubeconfigs and kubectl's cache.
    folder: PathBuf,
}

impl Access {
    /// Reads authority and tokens from the plane's folder; files for clients are written to a separate folder.
    pub(super) fn new(server: SocketAddr, plane: &Path, folder: &Path) -> Self {
        Self {
            server,
            ca: plane.join("ca.crt"),
            tokens: users::read(plane),
            folder: folder.to_path_buf(),
        }
    }

    /// A user's token.
    pub fn token(&self, user: User) -> &str {
        self.tokens
            .get(&user)
            .unwrap_or_else(|| panic!("no token for {user:?}"))
    }

    /// Writes a kubeconfig for a user on this machine.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        let name = user.name().replace(':', "-");
        self.kubeconfig_with(&name, self.token(user), self.server)
    }

    /// Writes a kubeconfig with any token and any address of the server: for a program on a node, the relay's.
    pub fn kubeconfig_with(&self, name: &str, token: &str, server: SocketAddr) -> PathBuf {
        let path = self.folder.join(format!("{name}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "lab", "cluster": { "server": format!("https://{server}"), "certificate-authority": self.ca } }],
            "users": [{ "name": name, "user": { "token": token } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": name } }],
            "current-context": "lab",
        });
        fs::write(&path, text.to_string())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Makes one request as a user; returns the status code and body of the answer. An error means that the connection failed.
    pub fn request(
        &self,
        user: User,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String), String> {
        let mut arguments = vec![
            "--cacert".to_owned(),
            self.ca.display().to_string(),
            "-H".to_owned(),
            format!("Authorization: Bearer {}", self.token(user)),
            "-X".to_owned(),
            method.to_owned(),
        ];
        if let Some(body) = body {
            arguments.extend(["-H", "Content-Type: application/json", "--data"].map(str::to_owned));
            arguments.push(body.to_string());
        }
        arguments.push(format!("https://{}{path}", self.server));
        curl(&arguments)
    }

    /// Runs kubectl as a user.
    pub fn kubectl(&self, user: User, arguments: &[&str]) -> Output {
        Command::new(program("kubectl"))
            .arg("--kubeconfig")
            .arg(self.kubeconfig(user))
            .arg("--cache-dir")
            .arg(self.folder.join("kubectl"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("kubectl runs")
    }
}

/// Runs curl; returns status code and body, or why there was no answer.
pub(super) fn curl(arguments: &[String]) -> Result<(u16, String), String> {
    let program = find_tool("curl").unwrap_or_else(|| "curl".into());
    let output = Command::new(program)
        .args(["-sS", "-m", "30", "--noproxy", "*", "-w", "\n%{http_code}"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_default();
    match code.parse() {
        Ok(code) if output.status.success() => Ok((code, body.to_owned())),
        _ => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
