//! `ferrolb cleanup`: removes from this kernel what a node created there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_node::lock::StateLock;
use ferrolb_node::store::{DirStore, StoreError};
use ferrolb_proxy::config::Config;
use ferrolb_proxy::kernel::Kernel;
use ferrolb_proxy::kernel::real::{LinuxConfig, LinuxKernel};
use ferrolb_proxy::kernel::table::table;
use ferrolb_speaker::cleanup::remove_leftovers;

use crate::args::CleanupArgs;
use crate::error::Error;

pub(crate) fn main(args: &CleanupArgs) -> Result<(), Error> {
    let _lock = StateLock::take(&args.state)?;
    let marks = Config::new("", ProxyConfig::default()).marks;
    let config = LinuxConfig::new(args.state.clone(), marks.start..=marks.end - 1, table());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    let given = given(args);
    let text: Vec<String> = runtime.block_on(async {
        let mut kernel = LinuxKernel::new(config).await.map_err(Error::failed)?;
        let errors = kernel.cleanup().await;
        let mut text: Vec<String> = errors.iter().map(ToString::to_string).collect();
        match given {
            Ok(given) => text.extend(remove_leftovers(&given).await.err().map(|e| e.to_string())),
            Err(e) => text.push(e.to_string()),
        }
        Ok::<_, Error>(text)
    })?;
    if text.is_empty() {
        println!(
            "removed kube-ipvs0, its virtual servers and the table inet ferrolb; sysctls and timeouts are as before"
        );
        return Ok(());
    }
    Err(Error::Failed(format!(
        "not all could be removed: {}",
        text.join("; ")
    )))
}

/// The addresses that Services had. A node may have left them on an interface of the LAN.
fn given(args: &CleanupArgs) -> Result<BTreeSet<IpAddr>, StoreError> {
    let saved = DirStore::open(&args.state)?.load()?.unwrap_or_default();
    let tables = [&saved.agreed, &saved.held];
    let assignments = tables.into_iter().flat_map(|t| t.assignments.values());
    Ok(assignments
        .flat_map(|a| a.addresses.iter().copied())
        .collect())
}
