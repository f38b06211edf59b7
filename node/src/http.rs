//! A port that answers over HTTP/1.1. A slow or hostile asker costs a bounded amount of time and memory.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tracing::debug;

/// The most connections at a time.
const ASKERS: usize = 256;
/// How long a connection may take in all, however slow the asker is.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of a request that are kept. `hyper` refuses less than this.
const LARGEST: usize = 8192;

/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// An answer without headers of its own.
pub(crate) fn plain(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = code;
    reply
}

/// A port that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Port(JoinHandle<()>);

impl Drop for Port {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a port and serves it. Where the kernel has no IPv6, the unspecified address is that of IPv4. It needs a tokio runtime.
pub(crate) fn open<F>(address: SocketAddr, answer: F) -> Result<Port, String>
where
    F: Fn(&Method, &str) -> Reply + Clone + Send + 'static,
{
    let listener = match listen(address) {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        listener => listener,
    };
    let listener = listener.map_err(|e| e.to_string())?;
    Ok(Port(tokio::spawn(serve(listener, answer))))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers at a port until it is aborted.
async fn serve<F>(listener: TcpListener, answer: F)
where
    F: Fn(&Method, &str) -> Reply + Clone + Send + 'static,
{
    let places = Arc::new(Semaphore::new(ASKERS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let reply = answer(request.method(), request.uri().path());
                std::future::ready(Ok::<_, Infallible>(reply))
            });
            let answered = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(LARGEST)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if !matches!(tokio::time::timeout(PATIENCE, answered).await, Ok(Ok(()))) {
                debug!("an asker left early, or spoke no HTTP");
            }
            drop(place);
        });
    }
}
