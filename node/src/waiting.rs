//! A node before its source has said everything: it does nothing yet, but its status says what it waits for.

use std::sync::Arc;

use ferrolb_api::change::Batch;
use ferrolb_api::problem::{Cause, Problem, Subject};
use ferrolb_source::Source;
use tokio::sync::mpsc;

use crate::config::ProxyMode;
use crate::report::view::NodeStatus;
use crate::socket::Question;

/// Waits for the first batch and answers requests for the status meanwhile. `None` if the source ends first.
pub(crate) async fn first<Src: Source>(
    source: &mut Src,
    questions: &mut mpsc::Receiver<Question>,
    me: &str,
    proxy: ProxyMode,
) -> Option<Batch> {
    loop {
        tokio::select! {
            batch = source.next() => return batch,
            Some(question) = questions.recv() => {
                let status = status(me, proxy, source.waits_for());
                let text: Arc<[u8]> = serde_json::to_vec(&status).unwrap_or_default().into();
                // The asker may have left.
                let _ = question.send(text);
            }
        }
    }
}

fn status(me: &str, proxy: ProxyMode, waits_for: Vec<String>) -> NodeStatus {
    let problem = |what: String| {
        let text = format!(
            "this node does nothing before it has read all objects, and what was programmed before its start stays. Not read yet: {what}"
        );
        Problem::new(Subject::Input, Cause::Reported { text })
    };
    NodeStatus {
        node: me.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proxy: proxy.name().to_owned(),
        settled: false,
        members: Vec::new(),
        speaker: Default::default(),
        services: Vec::new(),
        problems: waits_for.into_iter().map(problem).collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use tokio::sync::oneshot;

    use super::*;

    /// A source that says nothing until its channel is used.
    struct Late(mpsc::Receiver<Batch>);

    impl Source for Late {
        async fn next(&mut self) -> Option<Batch> {
            self.0.recv().await
        }

        fn waits_for(&self) -> Vec<String> {
            vec!["Service: connection refused".to_owned()]
        }
    }

    #[tokio::test]
    async fn the_status_says_what_the_node_waits_for_until_it_comes() {
        let (tell, batches) = mpsc::channel(1);
        let (ask, mut questions) = mpsc::channel(1);
        let mut source = Late(batches);
        let waiting = first(&mut source, &mut questions, "a", ProxyMode::Ipvs);
        let asking = async {
            let (question, answer) = oneshot::channel();
            ask.send(question).await.unwrap();
            let status: NodeStatus = serde_json::from_slice(&answer.await.unwrap()).unwrap();
            assert_eq!((status.node.as_str(), status.settled), ("a", false));
            let said = status.problems[0].to_string();
            assert!(
                said.contains("Not read yet: Service: connection refused"),
                "{said}"
            );
            tell.send(Batch::default()).await.unwrap();
        };
        let (batch, ()) = tokio::join!(waiting, asking);
        assert!(batch.is_some());
    }
}
