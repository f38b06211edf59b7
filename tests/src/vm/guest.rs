//! A running VM: its processes, its output, and whether it is still alive.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::script::{BEAT, CODE, OUTPUT, UP};
use super::{VmError, io};

/// The limits for a guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Processor time that the VM may use until the guest starts the command. Other load on the machine does not increase it.
    pub(super) up_busy: Duration,
    /// The wall-clock limit for the same, for a guest that does nothing.
    pub(super) up: Duration,
    /// The longest time between two signs of life.
    pub(super) silent: Duration,
    /// The limit for the whole run.
    pub(super) total: Duration,
}

impl Limits {
    /// A guest boots in ten seconds under emulation, or in minutes on a machine with ten times more load than it can handle. It
    /// gives a sign of life every 20 s.
    pub(super) fn within(total: Duration) -> Self {
        Self {
            up_busy: Duration::from_secs(60),
            up: Duration::from_secs(400).min(total),
            silent: Duration::from_secs(300),
            total,
        }
    }
}

/// Units of processor time per second (USER_HZ on every Linux).
const TICKS: u64 = 100;
/// The number of lines of a console or of a process list to show.
const SHOWN: usize = 60;

/// Runs the guest to its end and returns the exit code of its command. Its output goes to ours.
pub(super) fn run(command: Command, folder: &Path, limits: Limits) -> Result<i32, VmError> {
    let output = folder.join(OUTPUT);
    File::create(&output).map_err(io(output.display().to_string()))?;
    let console = folder.join("console");
    let log = File::create(&console).map_err(io(console.display().to_string()))?;
    let start = Instant::now();
    let mut guest = Guest::start(command, log)?;
    let mut stream = Stream::open(&output)?;
    while !guest.ended() {
        stream.copy();
        if !folder.join(UP).exists() {
            if start.elapsed() > limits.up || guest.used() > limits.up_busy {
                return Err(VmError::NotUp(start.elapsed().as_secs(), tail(&console)));
            }
        } else if start.elapsed() > limits.total {
            let (seconds, processes) = (limits.total.as_secs(), tail(&folder.join(BEAT)));
            return Err(VmError::TimedOut(seconds, processes));
        } else if age(&folder.join(BEAT)) > limits.silent {
            return Err(VmError::Silent(limits.silent.as_secs(), tail(&console)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    stream.copy();
    if !folder.join(UP).exists() {
        return Err(VmError::NotUp(start.elapsed().as_secs(), tail(&console)));
    }
    let code = std::fs::read_to_string(folder.join(CODE))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    code.ok_or_else(|| VmError::NoResult(tail(&console)))
}

/// How long ago a file was written; zero if it does not exist.
fn age(path: &Path) -> Duration {
    let written = path.metadata().and_then(|meta| meta.modified()).ok();
    let age = written.and_then(|at| SystemTime::now().duration_since(at).ok());
    age.unwrap_or_default()
}

/// The last lines of a text file.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// The VM's processes: a process group, ended only by its id.
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

    /// The processor time used by its living processes (proc_pid_stat(5): fields 5, 14 and 15).
    fn used(&self) -> Duration {
        let group = self.0.id().to_string();
        let ticks = |process: std::fs::DirEntry| -> Option<u64> {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            // The process name may contain spaces, so parse after it; the state is field 3.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let [user, system] = [11, 12].map(|at| fields.get(at)?.parse::<u64>().ok());
            (*fields.get(2)? == group).then_some(user? + system?)
        };
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        Duration::from_millis(processes.filter_map(ticks).sum::<u64>() * 1000 / TICKS)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::process::Command;
    use std::time::Duration;

    use super::{Limits, VmError, run};
    use crate::paths::TempDir;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);

    /// Limits that no test reaches.
    const LIMITS: Limits = Limits {
        up_busy: LONG,
        up: LONG,
        silent: LONG,
        total: LONG,
    };

    /// The result of a guest that is this shell script, run in the shared folder.
    fn outcome(script: &str, limits: Limits) -> Result<i32, VmError> {
        let folder = TempDir::new("guest");
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        run(command, folder.path(), limits)
    }

    #[test]
    fn the_exit_code_is_that_of_the_command() {
        let code = outcome("touch up beat; echo 7 >rc", LIMITS);
        assert_eq!(code.unwrap(), 7);
    }

    #[test]
    fn a_guest_that_does_not_come_up_is_ended_with_its_console() {
        let limits = Limits {
            up: SHORT,
            ..LIMITS
        };
        let error = outcome("echo panic; sleep 99", limits).unwrap_err();
        assert!(
            matches!(&error, VmError::NotUp(_, console) if console == "panic"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_that_turns_in_circles_instead_of_coming_up_is_ended_by_its_processor_time() {
        let limits = Limits {
            up_busy: SHORT,
            ..LIMITS
        };
        let error = outcome("echo spins; while :; do :; done", limits).unwrap_err();
        assert!(
            matches!(&error, VmError::NotUp(_, console) if console == "spins"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_that_ends_before_it_came_up_did_not_come_up() {
        let error = outcome("echo no timer", LIMITS).unwrap_err();
        assert!(
            matches!(&error, VmError::NotUp(_, console) if console == "no timer"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_that_stops_is_ended_with_its_console() {
        let error = outcome(
            "touch up beat; echo stuck; sleep 99",
            Limits {
                silent: SHORT,
                ..LIMITS
            },
        )
        .unwrap_err();
        assert!(
            matches!(&error, VmError::Silent(_, console) if console == "stuck"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_the_processes() {
        let error = outcome(
            "echo ps >beat; touch up; sleep 99",
            Limits {
                total: SHORT,
                ..LIMITS
            },
        )
        .unwrap_err();
        assert!(
            matches!(&error, VmError::TimedOut(_, processes) if processes == "ps"),
            "{error}"
        );
    }

    #[test]
    fn a_guest_that_ends_without_a_result_says_what_its_console_said() {
        let error = outcome("touch up beat; echo no root", LIMITS).unwrap_err();
        assert!(
            matches!(&error, VmError::NoResult(console) if console == "no root"),
            "{error}"
        );
    }
}
