//! The output of the demo: progress lines during long steps, a check mark for each check, and a final verdict.

use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

/// The checks so far.
#[derive(Debug)]
pub struct Report {
    start: Instant,
    passed: u32,
    failed: Vec<String>,
}

impl Report {
    /// Nothing checked yet.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            passed: 0,
            failed: Vec::new(),
        }
    }

    /// A heading.
    pub fn title(&self, text: impl Display) {
        say(&format!("\n\x1b[1m{text}\x1b[0m"));
    }

    /// The current step, with the seconds since the start.
    pub fn progress(&self, text: impl Display) {
        say(&format!(
            "  … {text} ({:.0} s)",
            self.start.elapsed().as_secs_f32()
        ));
    }

    /// A command and its unmodified output.
    pub fn shown(&self, command: impl Display, output: &str) {
        say(&format!("  $ {command}"));
        for line in output.trim_end().lines() {
            say(&format!("    {line}"));
        }
    }

    /// Reports one check: its name, and what was seen or why it failed.
    pub fn check(&mut self, name: &str, result: Result<String, String>) -> bool {
        match result {
            Ok(seen) => {
                self.passed += 1;
                let seen = if seen.is_empty() {
                    seen
                } else {
                    format!(": {seen}")
                };
                say(&format!("  \x1b[32m✓\x1b[0m {name}{seen}"));
                true
            }
            Err(why) => {
                self.failed.push(name.to_owned());
                say(&format!("  \x1b[31m✗\x1b[0m {name}: {why}"));
                false
            }
        }
    }

    /// The number of failed checks so far.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// Prints the verdict; true if there were checks and all passed.
    pub fn finish(self) -> bool {
        let seconds = self.start.elapsed().as_secs_f32();
        if self.failed.is_empty() {
            say(&format!(
                "\n\x1b[32m✓\x1b[0m {} checks passed in {seconds:.0} s",
                self.passed
            ));
        } else {
            say(&format!(
                "\n\x1b[31m✗\x1b[0m {} of {} checks failed: {}",
                self.failed.len(),
                self.failed.len() as u32 + self.passed,
                self.failed.join("; ")
            ));
        }
        self.failed.is_empty() && self.passed > 0
    }
}

impl Default for Report {
    fn default() -> Self {
        Self::new()
    }
}

// The output may go to a pipe: flush each line, and ignore a closed pipe.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
