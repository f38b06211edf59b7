//! What a port answers to questions about health.

use std::time::{Duration, Instant};

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ferrolb_api::ObjectKey;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::board::Health;
use crate::http::{Reply, plain};

/// How many endpoints there are, as kube-proxy says it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// A node whose loop has not run for this long does not live. kube-proxy waits for two of its sync periods.
const LIVES: Duration = Duration::from_secs(60);

/// What a port answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// About a Service.
    Service {
        /// 200, else 503.
        well: bool,
        /// What it says.
        body: Value,
        /// How many endpoints there are.
        weight: usize,
    },
    /// About this node.
    Node(NodeHealth),
}

/// How this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeHealth {
    /// Everything that could be programmed is, and it is known who announces what.
    pub(super) well: bool,
    /// The Node object is there and is not being deleted. Load balancers should send it new connections.
    pub(super) eligible: bool,
    /// When the node's loop last ran.
    pub(super) seen: (Instant, Timestamp),
}

impl NodeHealth {
    fn reply(self, path: &str, (now, time): (Instant, Timestamp)) -> Reply {
        let (seen, last) = self.seen;
        let lives = now.saturating_duration_since(seen) < LIVES;
        let times = |mut body: Value| {
            // A node that is well is so at this moment.
            let last = if lives { time } else { last };
            body["currentTime"] = json!(time.to_string());
            body["lastUpdated"] = json!(last.to_string());
            body
        };
        let well = lives && self.well;
        match path {
            "/livez" => answer(lives, &times(json!({"healthy": lives}))),
            "/healthz" => {
                let body = json!({"healthy": well, "nodeEligible": self.eligible});
                answer(well && self.eligible, &times(body))
            }
            _ => plain(StatusCode::NOT_FOUND, ""),
        }
    }
}

impl Answer {
    /// About a Service. A node that has endpoints but not the Service in its kernel gets no traffic either.
    pub(super) fn service(key: &ObjectKey, health: Health) -> Self {
        let Health {
            local, programmed, ..
        } = health;
        Self::Service {
            well: programmed && local > 0,
            body: json!({
                "service": {"namespace": key.namespace, "name": key.name},
                "localEndpoints": local,
                "serviceProxyHealthy": programmed,
            }),
            weight: local,
        }
    }

    /// The answer to one request at this time.
    pub(super) fn response(&self, method: &Method, path: &str, now: (Instant, Timestamp)) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        match self {
            Self::Node(health) => health.reply(path, now),
            Self::Service { well, body, weight } => {
                let mut reply = answer(*well, body);
                reply.headers_mut().insert(WEIGHT, (*weight).into());
                reply
            }
        }
    }
}

fn answer(well: bool, body: &Value) -> Reply {
    let code = match well {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut reply = plain(code, body.to_string());
    let headers = reply.headers_mut();
    let is_json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, is_json);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    reply
}
