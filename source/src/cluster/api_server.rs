//! Finds the addresses at which an API server answers, so that no Service takes them.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::warn;

/// How long to wait for the resolution of a name.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses and the port of a URL like `https://api.example:6443`. For a name, these are all addresses that it has now. If
/// the name is unknown, there are none, and this is logged.
pub async fn addresses(url: &str) -> Vec<SocketAddr> {
    let Some(place) = place(url) else {
        return Vec::new();
    };
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host(&place)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            warn!(
                server = place,
                "the addresses of the API server are not known ({error}): spec.externalIPs of a Service could name them"
            );
            Vec::new()
        }
        Err(_) => {
            warn!(
                server = place,
                "the addresses of the API server are not known (no answer within {PATIENCE:?}): spec.externalIPs of a Service could \
                 name them"
            );
            Vec::new()
        }
    }
}

/// The `host:port` part of a URL.
fn place(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit('@').next().filter(|a| !a.is_empty())?;
    // An IPv6 address in brackets contains colons too.
    let after = authority.rfind(']').map_or(0, |at| at + 1);
    let port = authority.get(after..)?.rsplit_once(':').map(|(_, p)| p);
    match (port, scheme) {
        (Some(port), _) if !port.is_empty() => Some(authority.to_owned()),
        (_, "http") => Some(format!("{}:80", authority.trim_end_matches(':'))),
        _ => Some(format!("{}:443", authority.trim_end_matches(':'))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_names_a_host_and_a_port() {
        for (url, expected) in [
            ("https://192.0.2.1:6443/", Some("192.0.2.1:6443")),
            ("https://192.0.2.1/", Some("192.0.2.1:443")),
            ("http://api.example", Some("api.example:80")),
            ("https://[fd00::1]:6443", Some("[fd00::1]:6443")),
            ("https://[fd00::1]/x", Some("[fd00::1]:443")),
            ("https://user@api.example:1?q", Some("api.example:1")),
            ("https:///", None),
            ("192.0.2.1:6443", None),
        ] {
            assert_eq!(place(url).as_deref(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn an_address_needs_nobody_who_knows_names() {
        let found = addresses("https://[2001:db8::1]:6443/").await;
        assert_eq!(found, ["[2001:db8::1]:6443".parse().unwrap()]);
    }
}
