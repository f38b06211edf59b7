//! The real servers behind the users' Services: CoreDNS and nginx, each in a pod.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::client::Ask;
use crate::need::find_tool;
use crate::paths::lab_dir;
use crate::pod::Pod;
use crate::{dns, wait};

/// The name that the lab's CoreDNS resolves, in the cluster's zone.
pub const DNS_NAME: &str = "web-svc-cip.default.svc.cluster.local";

/// Starts CoreDNS on port 53 of a pod. It resolves [`DNS_NAME`] to `address`, and answers `whoami.lab`.
pub fn coredns(pod: &mut Pod, folder: &Path, address: Ipv4Addr) {
    let corefile = folder.join(format!("{}.corefile", pod.name));
    let text = format!(
        "cluster.local:53 {{\n    hosts {{\n        {address} {DNS_NAME}\n    }}\n    log\n    errors\n}}\n\
         whoami.lab:53 {{\n    whoami\n}}\n"
    );
    fs::write(&corefile, text).expect("the Corefile can be written");
    let arguments = ["-conf".to_owned(), corefile.display().to_string()];
    pod.run(&lab_dir().join("coredns"), &arguments, folder);
    pod.wait_for(&[53]);
    // It opens its sockets one after the other.
    let what = format!("{} answers over UDP", pod.name);
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    wait::expect(&what, Duration::from_secs(10), || {
        pod.netns
            .run(move || dns::over_udp(server, DNS_NAME, Ask::default()))
    });
}

/// An nginx in a pod, with its access log.
#[derive(Debug, Clone)]
pub struct Nginx {
    access_log: PathBuf,
}

impl Nginx {
    /// Starts nginx: HTTP on one port, HTTPS with a self-signed certificate on another. Each line of the log begins with the
    /// client's address.
    pub fn start(pod: &mut Pod, folder: &Path, http: u16, https: u16) -> Self {
        let prefix = folder.join(&pod.name);
        fs::create_dir_all(&prefix).expect("a folder can be made");
        certificate(&prefix);
        let shown = prefix.display();
        let name = &pod.name;
        let config = format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\npid {shown}/pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               log_format lab '$remote_addr $server_port \"$request\" $status';\n\
               access_log {shown}/access.log lab;\n\
               client_body_temp_path {shown}/body; proxy_temp_path {shown}/proxy; fastcgi_temp_path {shown}/fastcgi;\n\
               uwsgi_temp_path {shown}/uwsgi; scgi_temp_path {shown}/scgi;\n\
               server {{\n\
                 listen {http}; listen [::]:{http}; listen {https} ssl; listen [::]:{https} ssl;\n\
                 ssl_certificate {shown}/cert.pem; ssl_certificate_key {shown}/key.pem;\n\
                 location / {{ default_type text/plain; return 200 \"pod={name} from=$remote_addr:$remote_port path=$request_uri\\n\"; }}\n\
               }}\n\
             }}\n"
        );
        let file = prefix.join("nginx.conf");
        fs::write(&file, config).expect("the configuration can be written");
        let arguments = [
            "-p".to_owned(),
            shown.to_string(),
            "-e".to_owned(),
            "stderr".to_owned(),
            "-c".to_owned(),
            file.display().to_string(),
        ];
        pod.run(
            &find_tool("nginx").unwrap_or_else(|| "nginx".into()),
            &arguments,
            folder,
        );
        pod.wait_for(&[http, https]);
        Self {
            access_log: prefix.join("access.log"),
        }
    }

    /// An nginx that is already running in the pod with this name.
    pub fn of(folder: &Path, pod: &str) -> Self {
        Self {
            access_log: folder.join(pod).join("access.log"),
        }
    }

    /// The lines of its access log.
    pub fn access_log(&self) -> Vec<String> {
        fs::read_to_string(&self.access_log)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// Creates a self-signed certificate with an elliptic-curve key, because generating an RSA key takes seconds under emulation.
fn certificate(folder: &Path) {
    let (key, cert) = (folder.join("key.pem"), folder.join("cert.pem"));
    let openssl = find_tool("openssl").unwrap_or_else(|| "openssl".into());
    let mut command = Command::new(openssl);
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=lab",
        "-keyout",
    ]);
    let output = command
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl runs");
    assert!(
        output.status.success(),
        "openssl: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
