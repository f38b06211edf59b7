//! One port that gives one answer over HTTP/1.1.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use ferrolb_api::ObjectKey;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use super::board::Health;

/// The most connections at a time.
const ASKERS: usize = 256;
/// How long a connection may take in all, however slow the asker is.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of a request that are kept. `hyper` refuses less than this.
const LARGEST: usize = 8192;
/// How many endpoints there are, as kube-proxy says it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// What a port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// 200, else 503.
    well: bool,
    body: Value,
    weight: Option<usize>,
    /// The port also answers whether the process is alive, at `/livez`.
    lives: bool,
}

impl Answer {
    /// About a Service. A node that has endpoints but not the Service in its kernel gets no traffic either.
    pub(super) fn service(key: &ObjectKey, health: Health) -> Self {
        let Health {
            local, programmed, ..
        } = health;
        Self {
            well: programmed && local > 0,
            body: json!({
                "service": {"namespace": key.namespace, "name": key.name},
                "localEndpoints": local,
                "serviceProxyHealthy": programmed,
            }),
            weight: Some(local),
            lives: false,
        }
    }

    /// About this node.
    pub(super) fn node(well: bool) -> Self {
        Self {
            well,
            body: json!({"ready": well}),
            weight: None,
            lives: true,
        }
    }

    fn response(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let plain = |code: StatusCode| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = code;
            response
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let well = match path {
            "/livez" if self.lives => true,
            "/healthz" => self.well,
            _ if self.lives => return plain(StatusCode::NOT_FOUND),
            _ => self.well,
        };
        let mut response = Response::new(Full::from(self.body.to_string()));
        if !well {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        let headers = response.headers_mut();
        let is_json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, is_json);
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        let weight = self.weight.map(HeaderValue::from);
        headers.extend(weight.map(|weight| (WEIGHT, weight)));
        response
    }
}

/// Opens a port. [`serve`] serves it.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers at a port until it is aborted.
pub(super) async fn serve(listener: TcpListener, told: watch::Receiver<Answer>) {
    let places = Arc::new(Semaphore::new(ASKERS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "a question about health was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let told = told.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = told.borrow();
                let response = answer.response(request.method(), request.uri().path());
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let answered = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(LARGEST)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            if !matches!(tokio::time::timeout(PATIENCE, answered).await, Ok(Ok(()))) {
                debug!("an asker about health left early, or spoke no HTTP");
            }
            drop(place);
        });
    }
}
