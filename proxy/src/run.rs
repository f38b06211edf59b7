//! The loop of the proxy: changes in, operations out.
//!
//! The first batch of a source is complete, so that the first pass may remove what no Service asks for. What a predecessor left
//! in the kernel is adopted: only the difference is applied. After that a change costs work in proportion to what it
//! concerns. Every [`Config::audit`] the kernel is read again and what others changed is repaired; the same happens, after a
//! growing pause, when the kernel refused something. Between two audits nobody watches for a foreign flush. At the end everything stays in the kernel for the next one.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use ferrolb_api::ObjectKey;
use ferrolb_api::source::Batch;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::apply::{apply, holds};
use crate::config::Config;
use crate::desired::{Desired, Touched};
use crate::diff::{diff, full};
use crate::kernel::{Kernel, KernelError, Observed};
use crate::snapshot::Snapshot;
use crate::state::State;

#[cfg(test)]
mod tests;

/// So many batches at most are gathered into one pass.
const GATHER_AT_MOST: usize = 256;

/// Why the proxy cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The kernel could not be prepared.
    #[error("preparing the kernel: {0}")]
    Prepare(#[source] KernelError),
    /// The kernel could not be read at the start.
    #[error("reading the kernel: {0}")]
    Read(#[source] KernelError),
}

/// Addresses that are programmed; `None` before the first pass.
pub type Programmed = Option<BTreeSet<IpAddr>>;

/// Programs the kernel until `shutdown` or until the changes end. The first batch must be complete.
///
/// An address is in `programmed` while everything of all Services on it is in the kernel; one without endpoints counts, since
/// it refuses cleanly.
pub async fn run<K: Kernel>(
    kernel: K,
    config: Config,
    mut changes: mpsc::Receiver<Batch>,
    programmed: watch::Sender<Programmed>,
    status: watch::Sender<Snapshot>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProxyError> {
    tokio::pin!(shutdown);
    let mut proxy = Proxy::new(kernel, config, programmed, status);
    proxy.kernel.prepare().await.map_err(ProxyError::Prepare)?;
    let first = tokio::select! {
        batch = changes.recv() => batch,
        () = &mut shutdown => None,
    };
    let Some(first) = first else {
        return Ok(());
    };
    proxy.take(first);
    proxy.start().await.map_err(ProxyError::Read)?;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            batch = changes.recv() => {
                let Some(batch) = batch else { return Ok(()) };
                proxy.take(batch);
                proxy.gather(&mut changes).await;
                proxy.change().await;
            }
            () = tokio::time::sleep_until(proxy.next_audit) => proxy.audit().await,
        }
    }
}

struct Proxy<K> {
    kernel: K,
    config: Config,
    state: State,
    desired: Desired,
    held: Observed,
    /// Services that are not wholly in the kernel.
    missing: BTreeSet<ObjectKey>,
    next_audit: Instant,
    last: Instant,
    pause: Duration,
    programmed: watch::Sender<Programmed>,
    status: watch::Sender<Snapshot>,
}

impl<K: Kernel> Proxy<K> {
    fn new(
        kernel: K,
        config: Config,
        programmed: watch::Sender<Programmed>,
        status: watch::Sender<Snapshot>,
    ) -> Self {
        Self {
            kernel,
            state: State::new(&config),
            desired: Desired::new(config.marks.clone()),
            held: Observed::default(),
            missing: BTreeSet::new(),
            next_audit: Instant::now(),
            last: Instant::now(),
            pause: config.retry.start,
            programmed,
            status,
            config,
        }
    }

    fn take(&mut self, batch: Batch) {
        for change in batch.changes {
            self.state.apply(change);
        }
    }

    /// Takes the batches that follow closely on a pass, so that a rollout is not a hundred passes. A single change waits for
    /// nothing.
    async fn gather(&mut self, changes: &mut mpsc::Receiver<Batch>) {
        let end = self.last + self.config.gather;
        for _ in 0..GATHER_AT_MOST {
            match tokio::time::timeout_at(end, changes.recv()).await {
                Ok(Some(batch)) => self.take(batch),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The first pass: adopt, decide on everything, change the difference.
    async fn start(&mut self) -> Result<(), KernelError> {
        self.held = self.kernel.read().await?;
        self.state.take_dirty();
        self.desired.adopt(&self.held);
        let everything = self.state.everything();
        self.desired
            .update(&self.state, &self.config, &everything, &self.held);
        self.desired.adopted();
        let touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        self.put(&touched).await;
        Ok(())
    }

    /// A pass over what is dirty.
    async fn change(&mut self) {
        let dirty = self.state.take_dirty();
        if dirty.is_empty() {
            return;
        }
        let touched = self
            .desired
            .update(&self.state, &self.config, &dirty, &self.held);
        // A change puts no audit off.
        let audit = self.next_audit;
        self.put(&touched).await;
        self.next_audit = audit.min(self.next_audit);
    }

    /// Reads the kernel and repairs what differs, whoever changed it.
    async fn audit(&mut self) {
        if let Err(error) = self.read_again().await {
            tracing::warn!(%error, "the kernel could not be read, trying again");
            self.later();
            return;
        }
        let touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        self.put(&touched).await;
    }

    async fn read_again(&mut self) -> Result<(), KernelError> {
        self.held = self.kernel.read().await?;
        if !self.held.rules_loaded {
            tracing::warn!("the nftables table is not as it was left, loading it again");
            self.kernel.prepare().await?;
            self.held = self.kernel.read().await?;
        }
        Ok(())
    }

    /// Applies the difference and tells.
    async fn put(&mut self, touched: &Touched) {
        let ops = diff(&self.held, &self.desired, touched);
        let errors = apply(&mut self.kernel, &mut self.held, &ops).await;
        for error in &errors {
            tracing::warn!(%error, "the kernel refused an operation, trying again");
        }
        if errors.is_empty() {
            self.pause = self.config.retry.start;
            self.next_audit = Instant::now() + self.config.audit;
        } else {
            self.later();
        }
        self.tell(touched, errors);
        self.last = Instant::now();
    }

    fn later(&mut self) {
        self.next_audit = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.config.retry.end);
    }

    fn tell(&mut self, touched: &Touched, errors: Vec<String>) {
        for key in &touched.services {
            let held = |s| holds(&self.held, s);
            if self.desired.service(key).is_none_or(held) {
                self.missing.remove(key);
            } else {
                self.missing.insert(key.clone());
            }
        }
        let ready = |addr: IpAddr| {
            let mut users = self.desired.users(addr).peekable();
            users.peek().is_some() && users.all(|key| !self.missing.contains(key))
        };
        self.programmed.send_if_modified(|programmed| {
            let mut changed = programmed.is_none();
            let set = programmed.get_or_insert_default();
            for addr in &touched.addresses {
                changed |= if ready(*addr) {
                    set.insert(*addr)
                } else {
                    set.remove(addr)
                };
            }
            changed
        });
        self.status.send_modify(|snapshot| {
            for key in &touched.services {
                match self.desired.service(key) {
                    Some(service) => {
                        let mut status = service.status.clone();
                        status.programmed = !self.missing.contains(key);
                        snapshot.services.insert(key.to_string(), status);
                    }
                    None => {
                        snapshot.services.remove(&key.to_string());
                    }
                }
            }
            snapshot.errors = errors;
        });
    }
}
