//! The command line of the VM: `virtme-ng` with the kernel image that `hack/setup` unpacked, the host's files read-only, and one
//! shared folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::VmError;
use crate::need::find_tool;
use crate::paths::{lab_dir, workspace};

/// How much a boot relies on the emulation behaving like fast hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// All shortcuts.
    Quick,
    /// No shortcuts: the kernel's defaults.
    Plain,
    /// No shortcuts and a single processor, so there is nothing to keep in step.
    Single,
}

/// Without this, the kernel gives up if a timer does not tick in time, which happens in a VM that gets too little processor time.
const ALWAYS: &str = "no_timer_check";

// Each of these saves time under emulation: a clock that is not a device, no self-tests, no zeroing, short grace periods.
const SHORTCUTS: [&str; 10] = [
    "mitigations=off",
    "nokaslr",
    "tsc=reliable",
    "clocksource=tsc",
    "apparmor=0",
    "audit=0",
    "nowatchdog",
    "rcupdate.rcu_expedited=1",
    "init_on_alloc=0",
    "cryptomgr.notests",
];

/// The command that boots a guest, which runs the script and powers off.
pub(super) fn command(
    folder: &Path,
    script: &Path,
    kvm: bool,
    style: Style,
    network: bool,
) -> Result<Command, VmError> {
    let venv = workspace().join("target/venv/bin");
    let vng = venv.join("vng");
    if !vng.exists() {
        return Err(VmError::Missing(vng.display().to_string()));
    }
    if find_tool("qemu-system-x86_64").is_none() {
        return Err(VmError::Missing("qemu-system-x86_64".to_owned()));
    }
    let mut command = Command::new(vng);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", venv.display()));
    let processors = if style == Style::Single { "1" } else { "2" };
    command.args(["--force-9p", "--user", "root", "--memory", "3G"]);
    command.args(["--cpus", processors, "-r"]).arg(image()?);
    if !kvm {
        command.arg("--disable-kvm");
    }
    command.arg(format!("--rwdir={}", folder.display()));
    command.args(["-a", ALWAYS]);
    if style == Style::Quick {
        for option in SHORTCUTS {
            command.args(["-a", option]);
        }
    } else {
        // If a guest does not boot, its kernel messages are needed to find out why.
        command.arg("--verbose");
    }
    let mut devices = "-fsdev local,id=host,path=/,security_model=none,multidevs=remap,readonly=on -device virtio-9p-pci,fsdev=host,mount_tag=host".to_owned();
    if network {
        // virtme-ng's --network does not work here: its guest waits for an interface from udev, which the guest does not have.
        devices.push_str(" -netdev user,id=host-net -device virtio-net-pci,netdev=host-net");
    }
    command.arg(format!("--qemu-opts={devices}"));
    command.arg("--").arg("sh").arg(script);
    Ok(command)
}

fn image() -> Result<PathBuf, VmError> {
    let folder = lab_dir().join("kernel/boot");
    let images = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let image = images
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        })
        .max();
    image.ok_or_else(|| VmError::Missing(format!("kernel image in {}", folder.display())))
}
