//! How many requests were made to the API server, and how they ended, as client-go counts them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How client-go calls the code of a request without an answer.
const NO_ANSWER: &str = "<error>";

/// One series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    code: String,
    method: String,
    host: String,
}

/// The requests of one client; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    host: String,
    made: Family<Labels, Counter>,
}

impl Requests {
    /// Of a client of this server, `host:port`.
    pub(super) fn to(host: String) -> Self {
        Self {
            host,
            made: Family::default(),
        }
    }

    /// One more, with its HTTP status if there was an answer.
    pub(super) fn made(&self, method: &http::Method, status: Option<http::StatusCode>) {
        let code = status.map(|s| s.as_str().to_owned());
        let labels = Labels {
            code: code.unwrap_or_else(|| NO_ANSWER.to_owned()),
            method: method.to_string(),
            host: self.host.clone(),
        };
        self.made.get_or_create(&labels).inc();
    }

    /// Makes the metric known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "rest_client_requests",
            "Requests to the API server, by HTTP status, method and host",
            self.made.clone(),
        );
    }
}
