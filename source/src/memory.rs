//! Memory that the allocator keeps after a large input. Reading one leaves many times its size behind.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How often a daemon looks at its size.
const EVERY: Duration = Duration::from_secs(5);
/// How much it must have grown before it looks for unused memory, in pages (proc(5), statm).
const GROWN: u64 = 2048;

/// The most unused memory at the end of a heap that the allocator keeps, in bytes.
#[cfg(target_env = "gnu")]
const KEPT: libc::c_int = 256 << 10;

/// The size of a buffer whose release makes glibc look at the end of the calling thread's heap, in bytes: above
/// `FASTBIN_CONSOLIDATION_THRESHOLD` of its malloc.c, below what is mapped separately.
#[cfg(target_env = "gnu")]
const NUDGE: usize = 96 << 10;

/// Returns to the system what the allocator holds and nobody uses. It takes milliseconds. Call it on the
/// thread that read the input, because the end of a heap is returned only by its own thread.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: `malloc_trim` may be called at any time from any thread (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) };
    drop(std::hint::black_box(Vec::<u8>::with_capacity(NUDGE)));
}

/// Lets the allocator keep little unused memory. Without this, glibc keeps more after every large buffer (mallopt(3), on the
/// dynamic mmap threshold). Call it once, when the program begins.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn keep_little() {
    // SAFETY: `mallopt` sets a number in the allocator; no other thread runs yet that could set it too.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT) };
}

/// Other allocators need no such setting.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

/// Other allocators return unused memory by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}

/// Gives back unused memory whenever the process has grown, for as long as the runtime runs.
pub async fn tend() {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut least = 0;
    loop {
        tick.tick().await;
        let Some(size) = resident() else { return };
        if size < least + GROWN {
            least = least.min(size);
            continue;
        }
        if tokio::task::spawn_blocking(give_back).await.is_err() {
            return;
        }
        least = resident().unwrap_or(size);
    }
}

/// The resident set of this process, in pages.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split(' ').nth(1)?.parse().ok()
}
