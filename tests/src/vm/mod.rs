//! Runs a command where IPVS is: natively where this kernel has it, else in a small VM that `virtme-ng` boots from an unpacked kernel image.
//!
//! The guest sees the host's files read-only, over a 9p mount that caches (a program starts four times faster than from virtme-ng's own
//! mount, and nothing of the host can be changed); `/tmp` is the guest's, and one folder, for the output and the exit code, is shared. Output goes
//! through that folder and not through virtme-ng's ports, which need udev in the guest.

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

/// What a command needs of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tier {
    /// IPVS and nftables.
    Kernel,
    /// Namespaces alone.
    Lab,
}

/// Why a command could not be run; its own failure is not an error but an exit code.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// Something that `hack/setup` installs is not there.
    #[error("no {0}: run hack/setup first")]
    Missing(String),
    /// It powered off too early.
    #[error("the VM ended in the middle of the command; its console said:\n{0}")]
    NoResult(String),
    /// It never came as far as the command.
    #[error("the VM did not come up, for {0} s; its console ends with:\n{1}")]
    NotUp(u64, String),
    /// It came up and then stopped.
    #[error("no sign of life from the VM for {0} s; its console ends with:\n{1}")]
    Silent(u64, String),
    /// The wall clock ran out.
    #[error("not done after {0} s: the VM was ended; its processes were:\n{1}")]
    TimedOut(u64, String),
    /// A file or a process.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> VmError {
    let what = what.into();
    move |error| VmError::Io(what, error)
}

/// Whether the command can run right here.
pub fn native(tier: Tier) -> bool {
    let forced = std::env::var_os("FERROLB_FORCE_VM").is_some();
    !forced && Need::Root.met() && (tier == Tier::Lab || (Need::IpVs.met() && Need::Nft.met()))
}

/// Runs the command, its output going to ours, and gives its exit code. It is told where the plane is, if there is one.
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

/// What a guest does.
struct Job<'a> {
    command: &'a [String],
    /// More variables; with them the guest gets a network on which it reaches this machine's loopback.
    variables: Option<Vec<(String, String)>>,
}

/// Real KVM: the device opens, the processor has it, and a guest comes up with it.
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

/// Boots a guest that runs the command. One that does not come up has run nothing yet, so it is tried again, with less asked of the emulation.
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
