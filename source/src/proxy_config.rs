//! Reads a KubeProxyConfiguration from its own file, in the format of kube-proxy's `--config`.

use ferrolb_api::object::Object;
use ferrolb_api::problem::{Cause, Consequence, Problem, Subject};
use ferrolb_api::proxy_config::ProxyConfig;

use crate::files::document;

/// Parses a KubeProxyConfiguration in the format of kube-proxy's `--config`. The problems returned do not make it unusable.
pub fn parse(text: &str) -> Result<(ProxyConfig, Vec<Problem>), Box<Problem>> {
    parse_file("", text)
}

/// Like [`parse`], with the name of the file for messages.
pub fn parse_file(file: &str, text: &str) -> Result<(ProxyConfig, Vec<Problem>), Box<Problem>> {
    let read = document::read(file, "", text);
    let config = read
        .objects
        .into_iter()
        .find_map(|found| match found.object {
            Object::ProxyConfig(config) => Some(*config),
            _ => None,
        });
    if let Some(config) = config {
        return Ok((config, read.problems));
    }
    // A file that is read once has no earlier version to fall back on.
    let refused = read.problems.into_iter().next();
    let refused = refused.map(|problem| problem.so(Consequence::Nothing));
    Err(Box::new(refused.unwrap_or_else(|| {
        let text = "there is no KubeProxyConfiguration in it: give kube-proxy's configuration file";
        let cause = Cause::Invalid { text: text.into() };
        Problem::new(Subject::Input, cause).field("kind").at(file)
    })))
}
