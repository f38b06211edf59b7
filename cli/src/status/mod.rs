//! `ferrolb status`: queries the node over its Unix socket, or a cluster's API, and prints the result.

mod cluster;
mod table;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ferrolb_node::report::view::NodeStatus;
use serde::Serialize;

use crate::args::{Output, StatusArgs};
use crate::error::{Error, print};

/// The limit on an answer, in bytes.
const LIMIT: u64 = 256 << 20;

/// Prints the status of the node behind the socket, or of the cluster behind the kubeconfig.
pub(crate) fn main(args: &StatusArgs) -> Result<(), Error> {
    if asks_cluster(args, std::env::var_os("KUBECONFIG").is_some()) {
        let status = cluster::ask(args)?;
        return show(&status, args.output, table::render_cluster);
    }
    let text = ask(args).map_err(|source| Error::NoNode {
        path: args.socket.clone(),
        source,
    })?;
    let status: NodeStatus = serde_json::from_str(&text).map_err(|e| {
        Error::Failed(format!(
            "the node's answer is not understood ({e}); are node and ferrolb of one version?"
        ))
    })?;
    show(&status, args.output, table::render)
}

/// Whether the question is about a cluster. `named`: `$KUBECONFIG` is set.
fn asks_cluster(args: &StatusArgs, named: bool) -> bool {
    let asked = args.kubeconfig.is_some() || args.context.is_some();
    let is_usual = args.socket == Path::new(ferrolb_node::config::DEFAULT_SOCKET);
    asked || named && is_usual && !args.socket.exists()
}

fn show<S: Serialize>(status: &S, output: Output, table: fn(&S) -> String) -> Result<(), Error> {
    let printed = match output {
        Output::Json => serde_json::to_string_pretty(status).map_err(Error::failed)? + "\n",
        Output::Table => table(status),
    };
    print(printed.as_bytes())
}

fn ask(args: &StatusArgs) -> std::io::Result<String> {
    let stream = UnixStream::connect(&args.socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut text = String::new();
    stream.take(LIMIT).read_to_string(&mut text)?;
    if text.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
    }
    Ok(text)
}
