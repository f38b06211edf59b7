//! What a test needs from the machine; each test declares it. Something missing is an error if everything must run (`CI=true` or
//! `FERROLB_NEEDS=strict`), otherwise one visible line. A test never passes silently without running.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that a test requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Root privileges, for namespaces.
    Root,
    /// A kernel with ip_vs on this machine itself.
    IpVs,
    /// A kernel with nf_tables.
    Nft,
    /// A program on the path.
    Tool(&'static str),
    /// The real CoreDNS that `hack/setup` builds.
    CoreDns,
    /// The control plane: provided by `lab run --plane`, or as programs that `hack/setup` built or `KUBEBUILDER_ASSETS` contains.
    Plane,
    /// The `ferrolb` binary.
    Ferrolb,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::IpVs => f.write_str("a kernel with ip_vs (run it through: lab run)"),
            Self::Nft => f.write_str("a kernel with nf_tables"),
            Self::Tool(name) => write!(f, "the program {name} (hack/setup)"),
            Self::CoreDns => f.write_str("target/lab/coredns (hack/setup)"),
            Self::Plane => f.write_str("target/lab/plane (hack/setup)"),
            Self::Ferrolb => f.write_str("the ferrolb binary (make build)"),
        }
    }
}

impl Need {
    /// Whether it is available.
    pub fn met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::IpVs => kernel_has_ipvs(),
            Self::Nft => kernel_has_nft(),
            Self::Tool(name) => find_tool(name).is_some(),
            Self::CoreDns => crate::paths::lab_dir().join("coredns").exists(),
            Self::Plane => crate::plane::programs::all_there(),
            Self::Ferrolb => crate::paths::ferrolb().exists(),
        }
    }
}

/// Finds a program: on the path, or in Debian's folders for root's programs.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin"])
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
}

fn kernel_has_ipvs() -> bool {
    if Path::new("/proc/net/ip_vs").exists() {
        return true;
    }
    let loaded = find_tool("modprobe").is_some_and(|modprobe| quiet(&modprobe, &["-q", "ip_vs"]));
    loaded && Path::new("/proc/net/ip_vs").exists()
}

fn kernel_has_nft() -> bool {
    find_tool("nft").is_some_and(|nft| quiet(&nft, &["list", "tables"]))
}

fn quiet(program: &Path, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether something missing is an error rather than a reason to skip.
pub fn strict() -> bool {
    let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|text| text == value);
    set("CI", "true") || set("FERROLB_NEEDS", "strict")
}

/// Returns whether the test may run. If something is missing, panics in strict mode, otherwise prints one line on standard error.
#[track_caller]
pub fn all(test: &str, needs: &[Need]) -> bool {
    let Some(missing) = needs.iter().find(|need| !need.met()) else {
        return true;
    };
    assert!(!strict(), "{test} needs {missing}");
    // Bypasses the test harness's capture, so that the line is visible.
    let line = format!("SKIPPED: {test}: needs {missing}\n");
    let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
    false
}

/// Returns from the calling test unless all of its needs are met: `need!("name", Need::Root, Need::Tool("nginx"))`.
#[macro_export]
macro_rules! need {
    ($test:expr, $($need:expr),+ $(,)?) => {
        if !$crate::need::all($test, &[$($need),+]) {
            return;
        }
    };
}
