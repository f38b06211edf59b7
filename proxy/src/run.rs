//! The loop of the proxy: changes in, operations out.
//!
//! The first batch of a source is complete, so the first pass may remove what no Service needs. It adopts what a predecessor left
//! in the kernel and applies only the difference. After that, the work for a change is proportional to what it concerns. Every
//! [`Config::audit`] the kernel is read again, and what others changed is repaired. The same happens, with growing pauses, when
//! the kernel refused something.
//!
//! A quick check every [`Config::watch`] detects a foreign flush (`kube-proxy --cleanup`, `ipvsadm -C`, `nft flush ruleset`). It
//! takes a few requests, however many Services there are: it checks the interface, the table and one virtual server, a different
//! one each time. If something is missing, an audit follows at once, and addresses whose servers are gone are withdrawn until
//! they are back. Other foreign changes are found by the audit. When the proxy stops, everything stays in the kernel for the next
//! one.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrolb_api::change::{Batch, Change};
use ferrolb_api::delta;
use ferrolb_api::object::Object;
use ferrolb_api::{Backoff, ObjectKey};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::apply::apply;
use crate::config::Config;
use crate::desired::Desired;
use crate::diff::{diff, full};
use crate::kernel::{Damage, Kernel, KernelError, Look, Observed, Op, VirtualServerId};
use crate::lower::Touched;
use crate::plan::detection::{self, Seen};
use crate::snapshot::{ServiceStatus, Snapshot};
use crate::state::{Dirty, State};

mod schedulers;
mod tell;
#[cfg(test)]
mod tests;

/// The most batches that are collected into one pass.
const GATHER_AT_MOST: usize = 256;

/// The most changes of slices that are remembered while the kernel refuses something.
const TRIGGERS: usize = 10_000;

/// How long a proxy takes at most to end after it was asked to stop.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);

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

/// The programmed addresses. `None` before the first pass.
pub type Programmed = Option<BTreeSet<IpAddr>>;

/// Programs the kernel until `shutdown` or until the changes end. The first batch must be complete.
///
/// An address is in `programmed` while everything of all Services on it is in the kernel; one without endpoints counts, since
/// it refuses cleanly. `services` gets the status of every Service that a pass touched. After `shutdown` the step under way is
/// finished, but the proxy ends within [`STOP_WITHIN`] even where the kernel does not answer.
pub async fn run<K: Kernel + Look>(
    kernel: K,
    config: Config,
    changes: mpsc::Receiver<Batch>,
    programmed: watch::Sender<Programmed>,
    status: watch::Sender<Snapshot>,
    services: delta::Sender<ObjectKey, Arc<ServiceStatus>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ProxyError> {
    let proxy = Proxy::new(kernel, config, programmed, status, services);
    let (stop, stopped) = watch::channel(false);
    let work = work(proxy, changes, stopped);
    tokio::pin!(work);
    tokio::select! {
        biased;
        result = &mut work => return result,
        () = shutdown => {}
    }
    stop.send_replace(true);
    let ended = tokio::time::timeout(STOP_WITHIN, work).await;
    ended.unwrap_or_else(|_| {
        tracing::warn!(
            "the kernel did not answer within {STOP_WITHIN:?}, so the proxy stops in the middle of a pass; the next start completes it"
        );
        Ok(())
    })
}

/// Programs the kernel. Ends between two steps once `stop` is true.
async fn work<K: Kernel + Look>(
    mut proxy: Proxy<K>,
    mut changes: mpsc::Receiver<Batch>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ProxyError> {
    proxy.kernel.prepare().await.map_err(ProxyError::Prepare)?;
    let first = tokio::select! {
        batch = changes.recv() => batch,
        () = asked(&mut stop) => None,
    };
    let Some(first) = first else {
        return Ok(());
    };
    proxy.take(first);
    proxy.start().await.map_err(ProxyError::Read)?;
    loop {
        tokio::select! {
            biased;
            () = asked(&mut stop) => return Ok(()),
            () = tokio::time::sleep_until(proxy.next_glance) => proxy.glance().await,
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

/// Waits until `stop` is true or its sender is gone.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Proxy<K> {
    kernel: K,
    config: Config,
    state: State,
    desired: Desired,
    held: Observed,
    /// Whether the interface or the table is wrong, so that nothing is served.
    unprepared: bool,
    /// Services that are not completely in the kernel.
    missing: BTreeSet<ObjectKey>,
    /// Services whose endpoints are all on other nodes while clients from inside, or from outside, may not be sent there.
    remote: [BTreeSet<ObjectKey>; 2],
    /// What triggered the changes of slices that are not in the kernel yet.
    triggered: Vec<i64>,
    /// When the pass that is under way began, and whether it is over everything.
    began: (Instant, bool),
    /// The errors of the last pass.
    errors: Vec<String>,
    /// The settings that the last audit put right, or why it could not.
    settings: Vec<String>,
    /// The pods that were seen.
    pods: Seen,
    /// What is doubtful about recognising them.
    doubts: Vec<String>,
    /// Whether the kernel's state is uncertain. It must then be read before the next comparison.
    unverified: bool,
    /// The virtual server that the last quick check looked for.
    sentinel: Option<VirtualServerId>,
    next_glance: Instant,
    /// The pause between quick checks that find damage.
    glances: Backoff,
    next_audit: Instant,
    last: Instant,
    /// The pause between retries of what was not done.
    retries: Backoff,
    programmed: watch::Sender<Programmed>,
    status: watch::Sender<Snapshot>,
    services: delta::Sender<ObjectKey, Arc<ServiceStatus>>,
}

impl<K: Kernel + Look> Proxy<K> {
    fn new(
        kernel: K,
        config: Config,
        programmed: watch::Sender<Programmed>,
        status: watch::Sender<Snapshot>,
        services: delta::Sender<ObjectKey, Arc<ServiceStatus>>,
    ) -> Self {
        Self {
            kernel,
            state: State::new(&config),
            desired: Desired::new(config.marks.clone()),
            held: Observed::default(),
            unprepared: false,
            missing: BTreeSet::new(),
            remote: Default::default(),
            triggered: Vec::new(),
            began: (Instant::now(), true),
            errors: Vec::new(),
            settings: Vec::new(),
            pods: Seen::default(),
            doubts: Vec::new(),
            unverified: false,
            sentinel: None,
            next_glance: Instant::now() + config.watch,
            glances: Backoff::new(config.watch, config.audit),
            next_audit: Instant::now(),
            last: Instant::now(),
            retries: Backoff::new(config.retry.start, config.retry.end),
            programmed,
            status,
            services,
            config,
        }
    }

    fn take(&mut self, batch: Batch) {
        self.config.meter.changes(&batch.changes);
        self.triggered
            .extend(batch.changes.iter().filter_map(|change| match change {
                Change::Upsert(Object::EndpointSlice(slice)) => slice.triggered,
                _ => None,
            }));
        for change in batch.changes {
            self.state.apply(change);
        }
    }

    /// What has changed since the last pass; this one takes it in.
    fn take_dirty(&mut self) -> Dirty {
        self.config.meter.taken_in();
        self.state.take_dirty()
    }

    /// Collects the batches that closely follow a pass, so that a rollout does not cause a hundred passes. A single change does
    /// not wait.
    async fn gather(&mut self, changes: &mut mpsc::Receiver<Batch>) {
        let end = self.last + self.config.gather;
        for _ in 0..GATHER_AT_MOST {
            match tokio::time::timeout_at(end, changes.recv()).await {
                Ok(Some(batch)) => self.take(batch),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The first pass: adopts, computes everything, and applies the difference.
    async fn start(&mut self) -> Result<(), KernelError> {
        self.began = (Instant::now(), true);
        self.tune().await;
        self.held = self.kernel.read().await?;
        self.look().await;
        self.take_dirty();
        self.desired.adopt(&self.held);
        let everything = self.state.everything();
        self.desired
            .update(&self.state, &self.config, &everything, &self.held);
        self.desired.adopted();
        let touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        self.doubt();
        self.put(&touched).await;
        Ok(())
    }

    /// A pass over what is dirty.
    async fn change(&mut self) {
        self.began = (Instant::now(), false);
        self.tune().await;
        if self.state.must_look() {
            self.look().await;
        }
        let dirty = self.take_dirty();
        if dirty.is_empty() {
            self.triggered.clear();
            return;
        }
        let touched = self
            .desired
            .update(&self.state, &self.config, &dirty, &self.held);
        if dirty.globals {
            self.doubt();
        }
        if self.unverified {
            return self.audit().await;
        }
        // A change does not delay an audit.
        let audit = self.next_audit;
        self.put(&touched).await;
        self.next_audit = audit.min(self.next_audit);
    }

    /// Checks whether somebody flushed our state, and repairs it.
    async fn glance(&mut self) {
        self.sentinel = self.desired.lowered().server_after(self.sentinel.as_ref());
        // A server that the kernel refused is known to be missing.
        let sentinel = self
            .sentinel
            .filter(|id| self.held.servers.contains_key(id));
        match self.kernel.damage(sentinel.as_ref()).await {
            Ok(None) => self.glances.reset(),
            Ok(Some(damage)) => {
                tracing::warn!(
                    ?damage,
                    "somebody removed what the proxy made; repairing it"
                );
                self.config.meter.repair();
                match damage {
                    Damage::Ground => self.unprepared = true,
                    Damage::Server => {
                        sentinel.map(|id| self.held.servers.remove(&id));
                    }
                }
                self.audit().await;
                // Neither repeated removal by others nor unrepairable damage may keep this node busy.
                self.next_glance = Instant::now() + self.glances.next(0);
                return;
            }
            Err(error) => tracing::warn!(%error, "the kernel could not be checked"),
        }
        self.next_glance = Instant::now() + self.config.watch;
    }

    /// Reads the kernel and repairs every difference, no matter who caused it.
    async fn audit(&mut self) {
        self.began = (Instant::now(), true);
        if let Err(error) = self.read_again().await {
            tracing::warn!(%error, "the kernel could not be read; trying again");
            self.errors = vec![error.to_string()];
            self.lose(&self.desired.lowered().everything());
            self.later();
            return;
        }
        self.mend().await;
        self.doubt();
        self.look().await;
        let dirty = self.take_dirty();
        // Services that wait for a resource get it now if it is free again.
        let decided = self
            .desired
            .update(&self.state, &self.config, &dirty, &self.held);
        let mut touched = full(&self.held, &self.desired, &self.state, &self.config.marks);
        touched.services.extend(decided.services);
        let ops = diff(&self.held, &self.desired, &touched);
        if !ops.is_empty() {
            self.lose(&touched);
        }
        self.carry_out(&ops, &touched).await;
        self.try_schedulers().await;
    }

    /// Puts right what somebody else set. The status says so until the next audit.
    async fn mend(&mut self) {
        self.settings = match self.kernel.mend().await {
            Ok(mended) => mended.iter().map(ToString::to_string).collect(),
            Err(error) => vec![error.to_string()],
        };
        for setting in &self.settings {
            tracing::warn!("{setting}");
        }
    }

    /// Looks whether the pods are recognised.
    fn doubt(&mut self) {
        let doubts = detection::doubts(&self.state, &mut self.pods);
        let before = std::mem::replace(&mut self.doubts, doubts);
        for doubt in self.doubts.iter().filter(|d| !before.contains(d)) {
            tracing::warn!("{doubt}");
        }
    }

    /// Takes over changed timeouts and limits.
    async fn tune(&mut self) {
        if !self.state.take_tuning() {
            return;
        }
        self.kernel.tune(self.state.proxy());
        if let Err(error) = self.kernel.mend().await {
            tracing::warn!(%error, "the timeouts of the KubeProxyConfiguration are tried again at the next audit");
        }
    }

    /// Reads the node's surroundings if a Service depends on them. Without them, no decision is taken.
    async fn look(&mut self) {
        if !self.state.looks() {
            return;
        }
        match self.kernel.look().await {
            Ok(around) => self.state.see(&around, &self.held.addresses),
            Err(error) => tracing::warn!(
                %error,
                "the addresses, routes and neighbours of this node could not be read; external addresses that are new wait until \
                 the next audit"
            ),
        }
    }

    async fn read_again(&mut self) -> Result<(), KernelError> {
        self.held = self.kernel.read().await?;
        self.unverified = false;
        let carried = std::mem::take(&mut self.held.traffic).into_iter();
        let lowered = self.desired.lowered();
        let carried = carried.filter_map(|(id, traffic)| Some((lowered.owner(&id)?, traffic)));
        self.config.meter.carried.set(carried);
        self.unprepared |= !self.held.rules_loaded;
        if self.unprepared {
            tracing::warn!("somebody changed the interface or the nftables table; making it again");
            self.lose(&self.desired.lowered().everything());
            self.kernel.prepare().await?;
            self.held = self.kernel.read().await?;
            self.unprepared = false;
        }
        Ok(())
    }

    /// Applies the difference and reports the result.
    async fn put(&mut self, touched: &Touched) {
        let ops = diff(&self.held, &self.desired, touched);
        self.carry_out(&ops, touched).await;
    }

    async fn carry_out(&mut self, ops: &[Op], touched: &Touched) {
        let mut applied = apply(&mut self.kernel, &mut self.held, ops).await;
        let again = self.fall_back(&mut applied).await;
        self.unverified |= applied.unknown;
        // What lasts is logged once; the status goes on to show it.
        let before = std::mem::replace(&mut self.errors, applied.errors);
        for error in self.errors.iter().filter(|error| !before.contains(error)) {
            tracing::warn!(%error, "the kernel did not do an operation; trying again");
        }
        if self.errors.is_empty() {
            self.retries.reset();
            self.next_audit = Instant::now() + self.config.audit;
        } else {
            self.later();
        }
        self.count(touched);
        if let Some(again) = again {
            self.count(&again);
        }
        self.last = Instant::now();
        let (began, whole) = self.began;
        let meter = &self.config.meter;
        meter.pass(self.last - began, whole, ops.len(), self.errors.is_empty());
        if self.errors.is_empty() {
            meter.programmed(self.triggered.drain(..));
        } else {
            // What the kernel refuses for long is seen elsewhere.
            self.triggered.truncate(TRIGGERS);
        }
        meter.missing(self.missing.len(), self.desired.lowered().lacking().len());
        let [internal, external] = &self.remote;
        meter.no_local_endpoints(internal.len(), external.len());
    }

    fn later(&mut self) {
        self.next_audit = Instant::now() + self.retries.next(0);
    }
}
