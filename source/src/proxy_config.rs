//! A KubeProxyConfiguration from a file of its own, as kube-proxy's `--config` takes it.

use ferrolb_api::object::Object;
use ferrolb_api::problem::Problem;
use ferrolb_api::proxy_config::ProxyConfig;

use crate::files::document;

/// Reads a KubeProxyConfiguration as kube-proxy's `--config` has it; the problems are those that it works with.
pub fn parse(text: &str) -> Result<(ProxyConfig, Vec<Problem>), Problem> {
    parse_file("", text)
}

/// [`parse`] with the name of the file for messages.
pub fn parse_file(file: &str, text: &str) -> Result<(ProxyConfig, Vec<Problem>), Problem> {
    match read_text(file, text) {
        (Some(config), problems) => Ok((config, problems)),
        (None, problems) => Err(problems.into_iter().next().unwrap_or_default()),
    }
}

fn read_text(file: &str, text: &str) -> (Option<ProxyConfig>, Vec<Problem>) {
    let read = document::read(file, "", text);
    let mut problems = read.problems;
    for object in read.objects {
        if let Object::ProxyConfig(config) = object.object {
            return (Some(*config), problems);
        }
    }
    if problems.is_empty() {
        problems.push(Problem {
            origin: file.to_owned(),
            field: "kind".into(),
            message:
                "there is no KubeProxyConfiguration in it: give kube-proxy's configuration file"
                    .into(),
            ..Problem::default()
        });
    }
    (None, problems)
}
