//! Shares one plane with tests in another process, mainly in a VM's guest. `lab run --plane` owns the plane, passes its location
//! in variables, and executes requests that need its processes and files. The guest sees a file of the host as it was when the
//! guest first read it: good enough for keys and tokens, but not for a log.
//!
//! A request is one line, `SECRET COMMAND`. The answer is one line, `ok` or `error`, followed by the output until the connection
//! closes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::socket::{Shutdown, shutdown};

use super::daemons::Daemons;
use super::lock;
use super::users::{self, User};
use crate::paths::{TempDir, lab_dir};

/// The host's address in a guest on qemu's user network.
pub const GUEST_VIEW: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

const SERVER: &str = "FERROLB_PLANE_SERVER";
const CONTROL: &str = "FERROLB_PLANE_CONTROL";
const FOLDER: &str = "FERROLB_PLANE_FOLDER";

/// A running plane that other processes use.
#[derive(Debug)]
pub struct Shared {
    server: SocketAddr,
    control: SocketAddr,
    listener: TcpListener,
    worker: Option<JoinHandle<()>>,
    // Dropped after the worker, and with it its processes, has ended.
    folder: TempDir,
}

impl Shared {
    /// Starts a plane and listens for requests on the loopback interface.
    pub fn start() -> Self {
        // Not in /tmp, because a guest has its own.
        let all = lab_dir().join("shared");
        sweep(&all);
        let folder = TempDir::at(&all.join(std::process::id().to_string()));
        let daemons = Daemons::start(folder.path());
        let server = daemons.access().server;
        let secret = daemons.access().token(User::Admin).to_owned();
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
        let control = listener.local_addr().expect("it is bound");
        let accepting = listener.try_clone().expect("a socket can be cloned");
        let worker = std::thread::spawn(move || {
            let daemons = Arc::new(Mutex::new(daemons));
            while let Ok((stream, _)) = accepting.accept() {
                let (daemons, secret) = (Arc::clone(&daemons), secret.clone());
                // If a client disconnects, only its answer is lost.
                std::thread::spawn(move || serve(stream, &secret, &daemons));
            }
        });
        Self {
            server,
            control,
            listener,
            worker: Some(worker),
            folder,
        }
    }

    /// The variables that locate the plane for a process; `host` is the address of this machine's loopback interface as that
    /// process sees it.
    pub fn variables(&self, host: Ipv4Addr) -> Vec<(String, String)> {
        let at = |address: SocketAddr| SocketAddr::from((host, address.port())).to_string();
        vec![
            (SERVER.to_owned(), at(self.server)),
            (CONTROL.to_owned(), at(self.control)),
            (FOLDER.to_owned(), self.folder.path().display().to_string()),
        ]
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // This wakes the worker.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// Removes the folders of planes whose process was killed before it could do so: etcd's are large.
fn sweep(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn serve(mut stream: TcpStream, secret: &str, daemons: &Mutex<Daemons>) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&stream).take(200).read_line(&mut line)?;
    let command = line.trim().strip_prefix(secret).map(str::trim);
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut daemons = lock(daemons);
        match command {
            Some("stop-apiserver") => daemons.stop_apiserver(),
            Some("start-apiserver") => daemons.start_apiserver(),
            Some("compact-etcd") => daemons.compact_etcd(),
            Some("audit") => return Some(daemons.audit_log()),
            _ => return None,
        }
        Some(String::new())
    }));
    match done {
        Ok(Some(answer)) => write!(stream, "ok\n{answer}"),
        Ok(None) => write!(stream, "error\nno such command, or not the plane's secret"),
        Err(_) => write!(stream, "error\nit failed; the lab's own output says why"),
    }
}

/// A plane that belongs to another process.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) server: SocketAddr,
    pub(super) folder: PathBuf,
    control: SocketAddr,
    secret: String,
}

impl Remote {
    /// The plane that the variables describe.
    pub(super) fn given() -> Option<Self> {
        let address = |name: &str| -> Option<SocketAddr> {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse()
                    .unwrap_or_else(|error| panic!("{name}={text}: {error}")),
            )
        };
        let (server, control) = (address(SERVER)?, address(CONTROL)?);
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        let secret = users::read(&folder).remove(&User::Admin)?;
        Some(Self {
            server,
            folder,
            control,
            secret,
        })
    }

    /// Sends a command and returns its answer.
    #[track_caller]
    pub(super) fn ask(&self, command: &str) -> String {
        let mut answer = String::new();
        let asked = TcpStream::connect(self.control).and_then(|mut stream| {
            writeln!(stream, "{} {command}", self.secret)?;
            stream.read_to_string(&mut answer)
        });
        asked.unwrap_or_else(|error| panic!("the plane's owner at {}: {error}", self.control));
        match answer.split_once('\n') {
            Some(("ok", rest)) => rest.to_owned(),
            _ => panic!("{command}: {answer}"),
        }
    }
}
