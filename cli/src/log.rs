//! The log on standard error; `FERROLB_LOG` sets the levels.

use tracing_subscriber::EnvFilter;

/// The default levels. The client library logs every attempt; the sources and writers log each problem once, with a remedy.
const USUAL: &str = "info,kube_client=off,kube_runtime=error";

/// Starts logging.
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
