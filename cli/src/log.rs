//! The log: to standard error, `FERROLB_LOG` says how much.

use tracing_subscriber::EnvFilter;

/// What is logged where nothing else is asked for. The client library tells every attempt; the sources and writers tell what
/// is wrong once, and in words that say what to do.
const USUAL: &str = "info,kube_client=off,kube_runtime=error";

/// Starts to log.
pub(crate) fn init(json: bool) {
    let filter = EnvFilter::try_from_env("FERROLB_LOG").unwrap_or_else(|_| EnvFilter::new(USUAL));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}
