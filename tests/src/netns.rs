//! A network namespace as a value. It has no name and no mount: only its own thread and the processes started from that thread
//! keep it alive. So nothing is left behind, even after a SIGKILL of the lab.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};

type Job = Box<dyn FnOnce() + Send>;

struct Inner {
    name: String,
    tid: Pid,
    handle: File,
    jobs: Mutex<Option<Sender<Job>>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// One namespace. Clones are handles to the same one; it ends with its last handle.
#[derive(Clone)]
pub struct Netns(Arc<Inner>);

impl std::fmt::Debug for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Netns({}, thread {})", self.0.name, self.0.tid)
    }
}

impl Netns {
    /// Creates an empty namespace with `lo` up. `name` is only for messages.
    pub fn new(name: &str) -> Self {
        let netns = Self::enter(name, || unshare(CloneFlags::CLONE_NEWNET));
        netns.ip("link set lo up\n");
        netns
    }

    /// The caller's namespace, for programs that run beside the lab and not in it.
    pub fn host() -> Self {
        Self::enter("host", || Ok(()))
    }

    fn enter(name: &str, enter: fn() -> nix::Result<()>) -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, started) = channel();
        let worker = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(move || {
                let made = enter().map(|()| gettid());
                if ready.send(made).is_err() || made.is_err() {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .expect("a thread starts");
        let tid = started
            .recv()
            .expect("the thread answers")
            .unwrap_or_else(|error| {
                panic!("cannot make a network namespace for {name}: {error}; the lab needs root")
            });
        let handle = File::open(format!("/proc/self/task/{tid}/ns/net"))
            .expect("the thread's namespace opens");
        let inner = Inner {
            name: name.to_owned(),
            tid,
            handle,
            jobs: Mutex::new(Some(jobs)),
            worker: Mutex::new(Some(worker)),
        };
        Self(Arc::new(inner))
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The id of a thread in the namespace, for `ip link ... netns X`.
    pub fn tid(&self) -> i32 {
        self.0.tid.as_raw()
    }

    /// Runs a closure on the namespace's own thread and waits for it. Jobs run one at a time, so a job that blocks for long
    /// belongs on [`Netns::thread`].
    #[track_caller]
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let boxed: Job = Box::new(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = answer.send(result);
        });
        let sent = self
            .0
            .jobs
            .lock()
            .expect("no thread panics with it")
            .as_ref()
            .map(|jobs| jobs.send(boxed));
        assert!(
            matches!(sent, Some(Ok(()))),
            "the thread of {} is gone",
            self.name()
        );
        match answered.recv().expect("the thread answers") {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Starts a thread in the namespace, for traffic in the background.
    pub fn thread<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let handle = self
            .0
            .handle
            .try_clone()
            .expect("a file handle can be cloned");
        std::thread::spawn(move || {
            setns(&handle, CloneFlags::CLONE_NEWNET)
                .expect("a thread of root may enter a namespace");
            drop(handle);
            job()
        })
    }

    /// Runs a program in the namespace until it ends.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let program = program.to_owned();
        self.run(move || {
            Command::new(tool(&program))
                .args(&arguments)
                .stdin(Stdio::null())
                .output()
                .unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
        })
    }

    /// Runs a program that must succeed and returns its output.
    #[track_caller]
    pub fn sh(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "in {}: {program} {}: {}\n{text}{errors}",
            self.name(),
            arguments.join(" "),
            output.status
        );
        text
    }

    /// Passes lines to one `ip -batch -`: a whole topology needs only one process.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        self.fed("ip", &["-batch", "-"], lines);
    }

    /// Passes a ruleset to one `nft -f -`.
    #[track_caller]
    pub fn nft(&self, ruleset: &str) {
        self.fed("nft", &["-f", "-"], ruleset);
    }

    #[track_caller]
    fn fed(&self, program: &'static str, arguments: &'static [&'static str], input: &str) {
        let text = input.to_owned();
        let output = self.run(move || {
            let mut command = Command::new(tool(program));
            command
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
            // A program that ends early reports the reason itself.
            let _ = child
                .stdin
                .take()
                .expect("it is piped")
                .write_all(text.as_bytes());
            child.wait_with_output().expect("a child can be waited for")
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "in {}: {program}: {errors}\ngiven:\n{input}",
            self.name()
        );
    }

    /// Writes one sysctl of the namespace; `net.ipv4.ip_forward` has the path `net/ipv4/ip_forward`.
    pub fn sysctl(&self, path: &str, value: &str) -> std::io::Result<()> {
        let (path, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.run(move || std::fs::write(path, value))
    }

    /// Reads one sysctl of the namespace.
    pub fn read_sysctl(&self, path: &str) -> std::io::Result<String> {
        let path = format!("/proc/sys/{path}");
        self.run(move || std::fs::read_to_string(path).map(|text| text.trim().to_owned()))
    }

    /// A number that identifies the namespace, as in `readlink /proc/PID/ns/net`.
    pub fn inode(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.0
            .handle
            .metadata()
            .map(|meta| meta.ino())
            .unwrap_or_default()
    }
}

fn tool(name: &str) -> std::path::PathBuf {
    crate::need::find_tool(name).unwrap_or_else(|| name.into())
}

impl Drop for Inner {
    fn drop(&mut self) {
        // This closes the queue, so the thread ends, and with it the namespace.
        self.jobs.lock().map(|mut jobs| jobs.take()).ok();
        let worker = self.worker.lock().ok().and_then(|mut worker| worker.take());
        if let Some(worker) =
            worker.filter(|worker| worker.thread().id() != std::thread::current().id())
        {
            let _ = worker.join();
        }
    }
}
