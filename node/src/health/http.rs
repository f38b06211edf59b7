//! What a port answers to questions about health.

use ::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ferrolb_api::ObjectKey;
use serde_json::{Value, json};

use super::board::Health;
use crate::http::{Reply, plain};

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

    /// The answer to one request.
    pub(super) fn response(&self, method: &Method, path: &str) -> Reply {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let well = match path {
            "/livez" if self.lives => true,
            "/healthz" => self.well,
            _ if self.lives => return plain(StatusCode::NOT_FOUND, ""),
            _ => self.well,
        };
        let code = match well {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = plain(code, self.body.to_string());
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
