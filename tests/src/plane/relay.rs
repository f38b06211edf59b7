//! Makes the API server reachable on the lab's LAN: a host whose port 6443 leads to the real server, which is outside of all the
//! lab's namespaces. The sockets towards the LAN are created in the host's namespace, and those towards the server in the
//! namespace of this process. A socket stays in its namespace, so any thread may then move the bytes. TLS passes through
//! unchanged.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::socket;

use super::{API_ADDRESS, API_PORT};
use crate::lan::{Host, Lan};
use crate::netns::Netns;

/// The host that runs the relay.
#[derive(Debug)]
pub struct Relay {
    /// Its place on the LAN.
    pub host: Host,
    lan: Netns,
    target: SocketAddr,
    open: Option<Open>,
}

/// A relay that accepts connections.
#[derive(Debug)]
struct Open {
    listener: TcpListener,
    worker: JoinHandle<()>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Connects the host to the LAN as 172.17.0.2 and starts to accept connections for `target`.
    pub fn start(lan: &mut Lan, target: SocketAddr) -> Self {
        let [.., number] = API_ADDRESS.octets();
        let host = lan.plug("api", number);
        let mut relay = Self {
            host,
            lan: lan.netns().clone(),
            target,
            open: None,
        };
        relay.open = Some(relay.listen());
        relay
    }

    /// The address at which the nodes reach the API server.
    pub fn address(&self) -> SocketAddr {
        (API_ADDRESS, API_PORT).into()
    }

    fn listen(&self) -> Open {
        let address = self.address();
        let listener = self.host.netns.run(move || TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("{address}: {error}"));
        let accepting = listener.try_clone().expect("a socket can be cloned");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (target, known) = (self.target, Arc::clone(&connections));
        let worker = std::thread::spawn(move || {
            while let Ok((near, _)) = accepting.accept() {
                // If the server is down, the connection closes, as with a proxy in front of it.
                if let Ok(far) = TcpStream::connect(target) {
                    let _ = join(near, far, &known);
                }
            }
        });
        Open {
            listener,
            worker,
            connections,
        }
    }

    /// Closes all connections and refuses new ones, like a stopped server.
    pub fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            // This wakes the worker, which then closes the port.
            let _ = socket::shutdown(open.listener.as_raw_fd(), socket::Shutdown::Both);
            let _ = open.worker.join();
            drop(open.listener);
            let mut connections = open
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for stream in connections.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Makes all connections hang, including new ones, like a machine with an unplugged cable: no side is notified.
    pub fn blackhole(&self) {
        self.lan.ip(&format!("link set {} down\n", self.host.port));
    }

    /// Ends a cut or a blackhole. Connections that hung in a blackhole continue.
    pub fn mend(&mut self) {
        self.lan.ip(&format!("link set {} up\n", self.host.port));
        if self.open.is_none() {
            self.open = Some(self.listen());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Moves the bytes of one connection both ways, each on a thread that ends with its direction.
fn join(near: TcpStream, far: TcpStream, known: &Mutex<Vec<TcpStream>>) -> std::io::Result<()> {
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let mut connections = known.lock().unwrap_or_else(PoisonError::into_inner);
    connections.retain(|stream| stream.peer_addr().is_ok());
    connections.extend([near.try_clone()?, far.try_clone()?]);
    drop(connections);
    std::thread::spawn(move || forward(near, far));
    std::thread::spawn(move || forward(far_too, near_too));
    Ok(())
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let ended = std::io::copy(&mut from, &mut to);
    // The end of one direction is forwarded; an error ends both.
    let how = if ended.is_ok() {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    let _ = to.shutdown(how);
    if ended.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
}
