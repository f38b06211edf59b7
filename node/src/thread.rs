//! A thread with its own runtime, for work that nothing else in the process may delay.
//!
//! The speaker runs on one. A list of ten thousand Services, a pass of the proxy, a report or a slow disk can keep the other
//! threads busy, and a heartbeat that is late by a few hundred milliseconds costs addresses. If the process has the right
//! (`CAP_SYS_NICE`, or `RLIMIT_RTPRIO`), the thread is scheduled before all ordinary threads (sched(7), `SCHED_RR`). Even then,
//! the kernel leaves the others 5% of the processor time (`sched_rt_runtime_us`).
#![allow(unsafe_code)] // sched_setscheduler(2) has no safe wrapper.

use std::future::Future;
use std::io;

use tokio::sync::oneshot;
use tracing::info;

use crate::error::Error;

/// Runs a future on its own thread, which ends with the future. `name`: at most 15 bytes, as shown by `ps -L`.
pub(crate) fn spawn<F>(
    name: &'static str,
    start: impl FnOnce() -> F + Send + 'static,
) -> Result<End, Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let (ended, end) = oneshot::channel();
    let run = move || {
        match prefer() {
            Ok(()) => info!(thread = name, "has real-time priority"),
            Err(error) => info!(
                thread = name,
                "runs without real-time priority ({error}): on a machine without a free processor it may be late; \
                 CAP_SYS_NICE would give it that"
            ),
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(start()),
            Err(error) => Err(Error::failed(error)),
        };
        // If the node is ending anyway, nobody waits for this any more.
        let _ = ended.send(result);
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(Error::failed)?;
    Ok(End { name, end })
}

/// A handle to wait for the end of a thread.
#[derive(Debug)]
pub(crate) struct End {
    name: &'static str,
    end: oneshot::Receiver<Result<(), Error>>,
}

impl End {
    /// Waits for the end, and returns what the thread's future returned.
    pub(crate) async fn wait(self) -> Result<(), Error> {
        self.end.await.unwrap_or_else(|_| {
            Err(Error::Failed(format!(
                "the thread `{}` ended in the middle of its work; its last words are above",
                self.name
            )))
        })
    }
}

/// Gives the calling thread priority over all ordinary threads. Its child processes and threads are ordinary again.
fn prefer() -> io::Result<()> {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the kernel reads `param` during the call and keeps no reference. Thread 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &param) }
    {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn the_result_of_the_thread_is_waited_for() {
        let end = spawn("test", || async {
            assert_eq!(std::thread::current().name(), Some("test"));
            Err(Error::Failed("as asked".into()))
        });
        assert_eq!(
            end.unwrap().wait().await.unwrap_err().to_string(),
            "as asked"
        );
    }

    #[tokio::test]
    async fn a_thread_that_panics_ends_with_an_error() {
        let end = spawn("test", || async { panic!("this is part of the test") });
        let error = end.unwrap().wait().await.unwrap_err().to_string();
        assert!(error.contains("thread `test` ended"), "{error}");
    }
}
