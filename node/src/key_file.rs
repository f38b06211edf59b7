//! The key file while the node runs. A node reads its key once, so a file that changes later splits the members at the next
//! restart. The status says so at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrolb_api::problem::{Cause, Part, Problem, Subject};
use ferrolb_speaker::wire::key::{Key, KeyError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

/// How often the file is read.
const EVERY: Duration = Duration::from_secs(5);

/// Reads the file from time to time. The receiver holds what is wrong with it.
pub(crate) fn watch(file: PathBuf, used: Key) -> watch::Receiver<Option<Problem>> {
    let (tell, problem) = watch::channel(None);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tell.closed() => return,
                _ = tick.tick() => {}
            }
            let path = file.clone();
            let read = tokio::task::spawn_blocking(move || Key::read(&path)).await;
            let Ok(read) = read else { return };
            let now = problem_with(&file, &used, read);
            tell.send_if_modified(|before| {
                let changed = *before != now;
                if changed {
                    match &now {
                        Some(problem) => warn!("{problem}"),
                        None => info!(file = %file.display(), "the key file holds the key of this node again"),
                    }
                    *before = now;
                }
                changed
            });
        }
    });
    problem
}

/// What is wrong with the file, given the key that this node uses.
fn problem_with(file: &Path, used: &Key, read: Result<Key, KeyError>) -> Option<Problem> {
    let text = match read {
        Ok(now) if now == *used => return None,
        Ok(_) => format!(
            "{} holds another key than the one with which this node started. Nodes that start from now on use it, so they and this node will \
             not hear each other and may announce the same addresses: restart all nodes, or put the old key back",
            file.display()
        ),
        Err(error) => format!(
            "{error}. This node goes on with the key that it read, but it could not start again"
        ),
    };
    let cause = Cause::Reported { text };
    Some(Problem::new(Subject::part(Part::Speaker), cause).field("--key-file"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_file_that_changes_is_reported_until_the_old_key_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("the first key of this cluster");
        let mut problem = watch(file.clone(), Key::read(&file).unwrap());
        assert_eq!(*problem.borrow(), None);
        let mut said = async || {
            problem.changed().await.unwrap();
            problem
                .borrow_and_update()
                .as_ref()
                .map(ToString::to_string)
        };
        write("another key, of whomsoever");
        assert!(said().await.unwrap().contains("holds another key"));
        write("short");
        assert!(said().await.unwrap().contains("holds 5 bytes"));
        std::fs::remove_file(&file).unwrap();
        assert!(said().await.unwrap().contains("could not start again"));
        write("the first key of this cluster\n");
        assert_eq!(said().await, None);
    }
}
