//! Answers requests for the status.
//!
//! With many Services, writing the status as JSON takes long. So it happens on a thread of its own, one answer at a time, and all
//! requests that arrive in the meantime share the next answer. The node's loop copies the list of Services (not the Services
//! themselves) at most once per answer, regardless of how many requests arrive and how fast.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::report::view::NodeStatus;
use crate::socket::Question;

/// The requests that wait for an answer, and the answer that is being written.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Vec<Question>,
    writing: Option<JoinHandle<()>>,
}

impl Answers {
    /// Adds a request.
    pub(crate) fn ask(&mut self, question: Question) {
        // Requests whose sender has left do not count.
        self.waiting.retain(|question| !question.is_closed());
        self.waiting.push(question);
    }

    /// Whether a request is waiting and no answer is being written.
    pub(crate) fn is_due(&self) -> bool {
        self.writing.is_none() && !self.waiting.is_empty()
    }

    /// Answers all waiting requests with this status.
    pub(crate) fn give(&mut self, status: NodeStatus) {
        let questions = std::mem::take(&mut self.waiting);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let text: Arc<[u8]> = serde_json::to_vec(&status).unwrap_or_default().into();
            for question in questions {
                // The sender of a request may have left; then it needs no answer.
                let _ = question.send(Arc::clone(&text));
            }
        }));
    }

    /// Waits until the answer that is being written has been given. Never returns if there is none.
    pub(crate) async fn given(&mut self) {
        match &mut self.writing {
            Some(writing) => {
                let _ = writing.await;
                self.writing = None;
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use tokio::sync::oneshot;

    use super::*;

    fn status(version: &str) -> NodeStatus {
        NodeStatus {
            node: "a".into(),
            version: version.into(),
            proxy: "none".into(),
            settled: true,
            members: vec![],
            speaker: Default::default(),
            services: vec![],
            problems: vec![],
        }
    }

    #[tokio::test]
    async fn one_status_is_made_for_all_who_ask_while_another_is_being_written() {
        let mut answers = Answers::default();
        let (first, first_answer) = oneshot::channel();
        answers.ask(first);
        assert!(answers.is_due());
        answers.give(status("1"));
        let mut later = Vec::new();
        for _ in 0..1000 {
            let (question, answer) = oneshot::channel();
            answers.ask(question);
            later.push(answer);
            assert!(!answers.is_due(), "nothing is made while one is written");
        }
        answers.given().await;
        let text = String::from_utf8(first_answer.await.unwrap().to_vec()).unwrap();
        assert!(text.contains(r#""version":"1""#), "{text}");
        assert!(answers.is_due());
        answers.give(status("2"));
        assert!(!answers.is_due());
        for answer in later {
            let text = String::from_utf8(answer.await.unwrap().to_vec()).unwrap();
            assert!(text.contains(r#""version":"2""#), "{text}");
        }
    }

    #[tokio::test]
    async fn those_who_left_are_not_waited_for() {
        let mut answers = Answers::default();
        for _ in 0..1000 {
            answers.ask(oneshot::channel().0);
        }
        assert!(answers.waiting.len() <= 1);
    }
}
