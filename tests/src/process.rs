//! A process of the lab. It runs in a namespace and writes its output to a file that is shown when something fails. It is killed
//! by its id when dropped, and by the kernel when the lab itself dies.
// `pre_exec` is unsafe because only a few operations are allowed between fork and exec; a single prctl is one of them.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    // The kernel watches for the death of the parent, which is the namespace's thread, so that thread must outlive the child.
    netns: Netns,
}

impl Process {
    /// Starts a program in a namespace. Both outputs are appended to the file `log`.
    #[track_caller]
    pub fn start(
        netns: &Netns,
        name: &str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let errors = file.try_clone().expect("a file handle can be cloned");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors);
        // SAFETY: prctl is async-signal-safe and affects only the new process.
        unsafe {
            command.pre_exec(|| {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        let shown = program.display().to_string();
        let child = netns.run(move || {
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"))
        });
        Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
            ended: None,
            netns: netns.clone(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The namespace that it runs in.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it is still running.
    pub fn running(&mut self) -> bool {
        self.poll().is_none()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let pid = i32::try_from(self.pid()).expect("a process id fits");
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Waits for its end, up to the time that is enough on an idle and fast machine.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let (start, within) = (Instant::now(), wait::patience(within));
        while self.poll().is_none() && start.elapsed() < within {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.ended
    }

    /// Asks it to stop and waits like [`Process::wait`]. A process that does not stop is killed, and this is reported.
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(within).unwrap_or_else(|| {
            eprintln!(
                "{} did not stop within {} s and was killed",
                self.name,
                wait::patience(within).as_secs()
            );
            self.kill()
        })
    }

    /// Kills it.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(20))
            .unwrap_or_else(|| ExitStatus::from_raw(9))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.poll().is_none() {
            self.kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.len().saturating_sub(60);
            eprintln!(
                "--- {} ({} lines, the last {}):",
                self.name,
                lines.len(),
                lines.len() - tail
            );
            for line in lines.iter().skip(tail) {
                eprintln!("    {line}");
            }
        }
    }
}
