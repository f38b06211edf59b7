//! Runs a command where IPVS is: natively where this kernel has it, else in a small VM that `virtme-ng` boots from an unpacked kernel image.
//!
//! The guest sees the host's files read-only, over a 9p mount that caches (a program starts four times faster than from virtme-ng's own
//! mount, and nothing of the host can be changed); `/tmp` is the guest's, and one folder, for the output and the exit code, is shared. Output goes
//! through that folder and not through virtme-ng's ports, which need udev in the guest.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::need::{Need, find_tool};
use crate::paths::{lab_dir, workspace};

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
    /// The VM did not come as far as the command.
    #[error("the VM ended without running the command; its console said:\n{0}")]
    NoResult(String),
    /// The wall clock ran out.
    #[error("not done after {0} s: the VM was ended")]
    TimedOut(u64),
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

/// Runs the command, its output going to ours, and gives its exit code.
pub fn run(tier: Tier, command: &[String], timeout: Duration) -> Result<i32, VmError> {
    if native(tier) {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .spawn()
            .map_err(io(&command[0]))?;
        return Ok(child.wait().map_err(io(&command[0]))?.code().unwrap_or(128));
    }
    boot(command, timeout, kvm_works())
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
    opens
        && able
        && boot(&["true".to_owned()], Duration::from_secs(40), true).is_ok_and(|code| code == 0)
}

// Each saves time under emulation: a clock that is no device, no self-tests, no zeroing, quick grace periods.
const KERNEL_OPTIONS: [&str; 11] = [
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
    "no_timer_check",
];

fn boot(command: &[String], timeout: Duration, kvm: bool) -> Result<i32, VmError> {
    let folder = lab_dir().join("vm").join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).map_err(io(folder.display().to_string()))?;
    let result = boot_in(&folder, command, timeout, kvm);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn boot_in(
    folder: &Path,
    command: &[String],
    timeout: Duration,
    kvm: bool,
) -> Result<i32, VmError> {
    let script = folder.join("run.sh");
    std::fs::write(&script, guest_script(folder, command, kvm))
        .map_err(io(script.display().to_string()))?;
    let output = folder.join("output");
    File::create(&output).map_err(io(output.display().to_string()))?;
    let console = folder.join("console");
    let log = File::create(&console).map_err(io(console.display().to_string()))?;
    let start = Instant::now();
    let mut guest = Guest::start(vng(folder, &script, kvm)?, log)?;
    let mut stream = Stream::open(&output)?;
    loop {
        stream.copy();
        if guest.ended() {
            break;
        }
        if start.elapsed() > timeout {
            return Err(VmError::TimedOut(timeout.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.copy();
    let code = std::fs::read_to_string(folder.join("rc"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    code.ok_or_else(|| {
        VmError::NoResult(
            std::fs::read_to_string(&console)
                .unwrap_or_default()
                .replace('\r', ""),
        )
    })
}

fn vng(folder: &Path, script: &Path, kvm: bool) -> Result<Command, VmError> {
    let venv = workspace().join("target/venv/bin");
    let vng = venv.join("vng");
    if !vng.exists() {
        return Err(VmError::Missing(vng.display().to_string()));
    }
    if find_tool("qemu-system-x86_64").is_none() {
        return Err(VmError::Missing("qemu-system-x86_64".to_owned()));
    }
    let kernel = kernel_image()?;
    let mut command = Command::new(vng);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", venv.display()));
    command
        .args([
            "--force-9p",
            "--user",
            "root",
            "--cpus",
            "2",
            "--memory",
            "3G",
            "-r",
        ])
        .arg(kernel);
    if !kvm {
        command.arg("--disable-kvm");
    }
    command.arg(format!("--rwdir={}", folder.display()));
    for option in KERNEL_OPTIONS {
        command.args(["-a", option]);
    }
    command.arg("--qemu-opts=-fsdev local,id=host,path=/,security_model=none,multidevs=remap,readonly=on -device virtio-9p-pci,fsdev=host,mount_tag=host");
    command.arg("--").arg("sh").arg(script);
    Ok(command)
}

fn kernel_image() -> Result<PathBuf, VmError> {
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

/// What the guest runs: the caching view of the host's files, the command in it, its exit code into the shared folder.
fn guest_script(folder: &Path, command: &[String], kvm: bool) -> String {
    let folder = quoted(&folder.display().to_string());
    let here = std::env::current_dir()
        .map(|path| path.display().to_string())
        .unwrap_or_else(|_| "/".to_owned());
    let mut exports = String::new();
    let passed = [
        "FERROLB_", "RUST_", "CARGO_", "CI", "HOME", "PATH", "NO_COLOR",
    ];
    // Cargo has names that a shell does not take: CARGO_BIN_EXE_lab-http.
    let fits = |name: &str| {
        name.chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            && passed.iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, value) in std::env::vars().filter(|(name, _)| fits(name)) {
        exports.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    if !kvm && std::env::var_os("FERROLB_SLOW").is_none() {
        exports.push_str("export FERROLB_SLOW=5\n");
    }
    let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let command = command.join(" ");
    format!(
        "exec >>{folder}/output 2>&1 </dev/null\n\
         {exports}unset FERROLB_FORCE_VM\nexport FERROLB_VM=1\nset -e\n\
         mkdir -p /run/host\n\
         mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose host /run/host\n\
         for part in proc sys dev run tmp; do mount --rbind /$part /run/host/$part; done\n\
         set +e\n\
         printf '#!/bin/sh\\nexec /sbin/modprobe -d %s \"$@\"\\n' {modules} >/run/lab-modprobe\n\
         chmod 755 /run/lab-modprobe\n\
         echo /run/lab-modprobe >/proc/sys/kernel/modprobe\n\
         /run/lab-modprobe -a ip_vs ip_vs_rr nf_tables veth bridge dummy >/dev/null 2>&1\n\
         chroot /run/host sh -c 'cd \"$1\" && shift && exec \"$@\"' sh {here} {command}\n\
         echo $? >{folder}/rc\nsync\n",
        here = quoted(&here),
        // Its modules lie beside the image; the guest's kernel finds them there, and nothing is made under the host's /lib/modules.
        modules = quoted(&lab_dir().join("kernel").display().to_string()),
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The VM's processes: a group of their own, ended by its id and nothing else.
struct Guest(Child);

impl Guest {
    fn start(mut command: Command, log: File) -> Result<Self, VmError> {
        let errors = log.try_clone().map_err(io("console"))?;
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        command.spawn().map(Self).map_err(io("vng"))
    }

    fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.ended() {
            if let Ok(group) = i32::try_from(self.0.id()) {
                let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
            let _ = self.0.wait();
        }
    }
}

/// Follows a file that the guest writes.
struct Stream(File);

impl Stream {
    fn open(path: &Path) -> Result<Self, VmError> {
        File::open(path)
            .map(Self)
            .map_err(io(path.display().to_string()))
    }

    fn copy(&mut self) {
        let mut chunk = Vec::new();
        if self.0.read_to_end(&mut chunk).is_ok_and(|count| count > 0) {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(&chunk).and_then(|()| out.flush());
        }
    }
}
