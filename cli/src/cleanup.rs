//! `ferrolb cleanup`: takes out of this kernel what a node put there.

use ferrolb_api::proxy_config::ProxyConfig;
use ferrolb_proxy::config::Config;
use ferrolb_proxy::kernel::Kernel;
use ferrolb_proxy::kernel::real::{LinuxConfig, LinuxKernel};
use ferrolb_proxy::kernel::table::table;

use crate::args::CleanupArgs;
use crate::error::Error;
use crate::lock::StateLock;

pub(crate) fn main(args: &CleanupArgs) -> Result<(), Error> {
    let _lock = StateLock::take(&args.state)?;
    let marks = Config::new("", ProxyConfig::default()).marks;
    let config = LinuxConfig::new(args.state.clone(), marks.start..=marks.end - 1, table());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::failed)?;
    let errors = runtime.block_on(async {
        let mut kernel = LinuxKernel::new(config).await?;
        Ok::<_, ferrolb_proxy::kernel::KernelError>(kernel.cleanup().await)
    });
    let errors = errors.map_err(Error::failed)?;
    if errors.is_empty() {
        println!(
            "removed kube-ipvs0, its virtual servers and the table inet ferrolb; sysctls are as before"
        );
        return Ok(());
    }
    let text: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Err(Error::Failed(format!(
        "not all could be removed: {}",
        text.join("; ")
    )))
}
