//! Requests that change something, one by one or as a transaction.

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{NLM_F_ACK, NetlinkSerializable};

use super::wire::Answer;
use super::{Channel, Outcome, Request, Silence, Socket, TRIES, WINDOW, refused};
use crate::kernel::KernelError;

impl<S: Socket> Channel<S> {
    /// Sends requests in order, several to a datagram, and reports the result of each.
    ///
    /// If an answer is lost, everything from the first unanswered request on is sent once more. So a later request never takes
    /// effect before an earlier one. Therefore a repetition of the requests in their order must lead to the same result.
    pub(crate) async fn pipeline<M>(&mut self, requests: &[Request<M>]) -> Vec<Outcome>
    where
        M: NetlinkSerializable + Sync,
    {
        let mut outcomes = Vec::with_capacity(requests.len());
        for window in requests.chunks(WINDOW) {
            let whole = self.window(window, &mut outcomes).await;
            if !whole {
                break;
            }
        }
        outcomes.resize_with(requests.len(), || Outcome::Unsent);
        outcomes
    }

    /// One datagram of [`Channel::pipeline`]. False if not all of it was answered.
    async fn window<M>(&mut self, requests: &[Request<M>], outcomes: &mut Vec<Outcome>) -> bool
    where
        M: NetlinkSerializable + Sync,
    {
        let mut todo = requests;
        for _ in 0..TRIES {
            let mut answers: Vec<Option<Outcome>> = Vec::new();
            answers.resize_with(todo.len(), || None);
            let mut missing = todo.len();
            let (first, bytes) = self.write(todo, |_| NLM_F_ACK);
            let silence = match self.send(&bytes).await {
                Err(error) => Some(Silence::Failed(error)),
                Ok(()) => loop {
                    if missing == 0 {
                        break None;
                    }
                    let received = self.receive(first, |sequence, _, answer| {
                        if let Answer::Result(result) = answer
                            && let Some(place) = answers.get_mut(sequence as usize)
                        {
                            missing -= usize::from(place.is_none());
                            *place = Some(result.map_or(Outcome::Done, Outcome::Refused));
                        }
                    });
                    if let Err(silence) = received.await {
                        break Some(silence);
                    }
                },
            };
            let before = outcomes.len();
            outcomes.extend(answers.into_iter().map_while(|answer| answer));
            let answered = outcomes.len() - before;
            todo = todo.get(answered..).unwrap_or_default();
            match silence {
                None => return true,
                Some(silence) => self.recover(silence),
            }
        }
        outcomes.extend(todo.iter().map(|_| Outcome::Unanswered));
        false
    }

    /// Sends all requests in one datagram, as a transaction of nf_tables, and collects errors by index. The error of index 0
    /// stands for the whole datagram. `requests[last]` is the last request that can be acknowledged; the first and those after
    /// `last` are not.
    ///
    /// A short transaction requests an answer to every message, so a lost error never looks like success. In a long one, only the
    /// last message and the errors are answered, and the kernel's ENOBUFS reports a lost error.
    pub(crate) async fn batch<M>(
        &mut self,
        requests: &[Request<M>],
        last: usize,
    ) -> Result<Vec<(usize, io::Error)>, KernelError>
    where
        M: NetlinkSerializable + Sync,
    {
        let name = self.name;
        let what = || format!("change {name}");
        let asked = if last <= WINDOW {
            1..=last
        } else {
            last..=last
        };
        let mut due: BTreeSet<usize> = asked.clone().collect();
        let ack = |i: usize| if asked.contains(&i) { NLM_F_ACK } else { 0 };
        let (first, bytes) = self.write(requests, ack);
        if let Err(error) = self.send(&bytes).await {
            return Err(refused(what(), error));
        }
        let mut errors = Vec::new();
        while !due.is_empty() {
            let received = self.receive(first, |sequence, _, answer| {
                if let Answer::Result(result) = answer {
                    let index = sequence as usize;
                    due.remove(&index);
                    if index == 0 {
                        // An error of the batch header: nothing follows it.
                        due.clear();
                    }
                    errors.extend(result.map(|e| (index, e)));
                }
            });
            if let Err(silence) = received.await {
                self.recover(silence);
                return Err(KernelError::Unanswered { what: what() });
            }
        }
        Ok(errors)
    }
}
