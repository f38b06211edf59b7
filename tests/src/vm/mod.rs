//! Runs a command on a kernel with IPVS: natively if this kernel has it, otherwise in a small VM that `virtme-ng` boots from an
//! unpacked kernel image.
//!
//! The guest sees the host's files read-only, over a caching 9p mount (a program starts four times faster than from virtme-ng's
//! own mount, and the guest cannot change anything on the host). `/tmp` is the guest's own. One folder is shared, for the output
//! and the exit code. Output goes through this folder and not through virtme-ng's ports, which need udev in the guest.

mod guest;
mod machine;
mod script;

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use self::guest::Limits;
use self::machine::Style;
use crate::need::Need;
use crate::paths::lab_dir;
use crate::plane::{GUEST_VIEW, Shared};

/// The kernel features that a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// IPVS and nftables.
    Kernel,
    /// Namespaces alone.
    Lab,
}

/// Why a command could not be run. If the command itself fails, that is an exit code and not an error.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Something that `hack/setup` installs is missing.
    #[error("no {0}: run hack/setup first")]
    Missing(String),
    /// The VM powered off too early.
    #[error("the VM ended in the middle of the command; its console said:\n{0}")]
    NoResult(String),
    /// The VM never reached the command.
    #[error("the VM did not come up, for {0} s; its console ends with:\n{1}")]
    NotUp(u64, String),
    /// The VM booted and then hung.
    #[error("no sign of life from the VM for {0} s; its console ends with:\n{1}")]
    Silent(u64, String),
    /// The time limit expired.
    #[error("not done after {0} s: the VM was ended; its processes were:\n{1}")]
    TimedOut(u64, String),
    /// An error with a file or a process.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> VmError {
    let what = what.into();
    move |error| VmError::Io(what, error)
}

/// Whether the command can run on this machine.
pub fn native(tier: Tier) -> bool {
    let forced = std::env::var_os("FERROLB_FORCE_VM").is_some();
    !forced && Need::Root.met() && (tier == Tier::Lab || (Need::IpVs.met() && Need::Nft.met()))
}

/// Runs the command, passes its output through and returns its exit code. If there is a plane, the command gets its location.
pub fn run(
    tier: Tier,
    command: &[String],
    timeout: Duration,
    plane: Option<&Shared>,
) -> Result<i32, VmError> {
    if native(tier) {
        let variables = plane.map(|plane| plane.variables(Ipv4Addr::LOCALHOST));
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .envs(variables.into_iter().flatten())
            .spawn()
            .map_err(io(&command[0]))?;
        return Ok(child.wait().map_err(io(&command[0]))?.code().unwrap_or(128));
    }
    let job = Job {
        command,
        variables: plane.map(|plane| plane.variables(GUEST_VIEW)),
    };
    boot(&job, timeout, kvm_works())
}

/// What a guest has to do.
struct Job<'a> {
    command: &'a [String],
    /// Additional variables. If set, the guest gets a network on which it reaches this machine's loopback interface.
    variables: Option<Vec<(String, String)>>,
}

/// Whether KVM really works: the device opens, the processor supports it, and a guest boots with it.
fn kvm_works() -> bool {
    let opens = File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .unwrap_or_default();
    let able = flags
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    let job = Job {
        command: &["true".to_owned()],
        variables: None,
    };
    opens && able && boot(&job, Duration::from_secs(40), true).is_ok_and(|code| code == 0)
}

/// Boots a guest that runs the command. If it does not boot, the command has not run yet, so it is tried again with lower demands
/// on the emulation.
fn boot(job: &Job<'_>, timeout: Duration, kvm: bool) -> Result<i32, VmError> {
    for style in [Style::Quick, Style::Plain] {
        match attempt(job, timeout, kvm, style) {
            Err(error @ VmError::NotUp(..)) if !kvm => {
                eprintln!("lab: {error}\nlab: trying again");
            }
            result => return result,
        }
    }
    attempt(job, timeout, kvm, Style::Single)
}

fn attempt(job: &Job<'_>, timeout: Duration, kvm: bool, style: Style) -> Result<i32, VmError> {
    let folder = lab_dir().join("vm").join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).map_err(io(folder.display().to_string()))?;
    let file = folder.join("run.sh");
    let result = std::fs::write(&file, script::script(&folder, job, kvm))
        .map_err(io(file.display().to_string()))
        .and_then(|()| machine::command(&folder, &file, kvm, style, job.variables.is_some()))
        .and_then(|command| guest::run(command, &folder, Limits::within(timeout)));
    let _ = std::fs::remove_dir_all(&folder);
    result
}
