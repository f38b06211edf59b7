//! Requests that read: complete dumps and single objects.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkSerializable};
use nix::errno::Errno;

use super::attr::Malformed;
use super::wire::Answer;
use super::{Channel, DUMP_TRIES, Request, Silence, Socket, TRIES, refused};
use crate::kernel::KernelError;

impl<S: Socket> Channel<S> {
    /// Runs a dump and calls `each` with the type and payload of every answer. Repeats the dump if a change interrupted it or
    /// answers were lost. Calls `reset` before each try.
    pub(crate) async fn dump<M, R>(
        &mut self,
        request: M,
        mut reset: impl FnMut() -> R,
        mut each: impl FnMut(&mut R, u16, &[u8]) -> Result<(), Malformed>,
    ) -> Result<R, KernelError>
    where
        M: NetlinkSerializable + Sync,
    {
        let request = [Request::new(NLM_F_DUMP, request)];
        let what = format!("read {}", self.name);
        let (mut interrupted, mut failed) = (0, 0);
        loop {
            let mut result = reset();
            let (mut done, mut again, mut overruns) = (false, false, 0);
            let (mut error, mut bad) = (None, None);
            let (first, bytes) = self.write(&request, |_| 0);
            let mut silence = self.send(&bytes).await.err().map(Silence::Failed);
            while !done && silence.is_none() {
                let received = self.receive(first, |_, flags, answer| {
                    again |= flags & NLM_F_DUMP_INTR != 0;
                    match answer {
                        // Read to the end, or the next dump would find the socket busy.
                        Answer::Message(..) if bad.is_some() => {}
                        Answer::Message(kind, payload) => {
                            bad = each(&mut result, kind, payload).err();
                        }
                        Answer::Done => done = true,
                        Answer::Result(e) => {
                            error = e;
                            done = true;
                        }
                    }
                });
                match received.await {
                    Ok(malformed) => bad = bad.or(malformed),
                    // The dump itself continues, but a part of it is missing.
                    Err(Silence::Overrun) if overruns < DUMP_TRIES => {
                        again = true;
                        overruns += 1;
                    }
                    Err(other) => silence = Some(other),
                }
            }
            let problem = match (silence, error, bad) {
                (Some(silence), ..) => {
                    self.recover(silence);
                    KernelError::Unanswered { what: what.clone() }
                }
                (_, Some(e), _) if e.kind() == io::ErrorKind::Interrupted => {
                    again = true;
                    refused(what.clone(), e)
                }
                (_, Some(e), _) if e.raw_os_error() == Some(Errno::EBUSY as i32) => {
                    self.recover(Silence::Busy);
                    refused(what.clone(), e)
                }
                (_, Some(e), _) => return Err(refused(what, e)),
                (_, _, Some(malformed)) => KernelError::Protocol {
                    what: what.clone(),
                    detail: malformed.to_string(),
                },
                _ if !again => return Ok(result),
                _ => refused(what.clone(), io::ErrorKind::Interrupted.into()),
            };
            if again {
                interrupted += 1;
            } else {
                failed += 1;
            }
            if interrupted == DUMP_TRIES || failed == TRIES {
                return Err(problem);
            }
        }
    }

    /// Requests one object. Returns what `decode` makes of its type and payload, or the error number.
    pub(crate) async fn get<M, T>(
        &mut self,
        request: M,
        mut decode: impl FnMut(u16, &[u8]) -> Result<T, Malformed>,
    ) -> Result<Result<T, io::Error>, KernelError>
    where
        M: NetlinkSerializable + Sync,
    {
        let request = [Request::new(0, request)];
        let what = format!("read {}", self.name);
        let mut problem = KernelError::Unanswered { what: what.clone() };
        for _ in 0..TRIES {
            let (first, bytes) = self.write(&request, |_| 0);
            let mut found = None;
            let silence = match self.send(&bytes).await {
                Err(error) => Some(Silence::Failed(error)),
                Ok(()) => loop {
                    if found.is_some() {
                        break None;
                    }
                    let received = self.receive(first, |_, _, answer| {
                        found.get_or_insert_with(|| match answer {
                            Answer::Message(kind, payload) => decode(kind, payload).map(Ok),
                            Answer::Result(Some(error)) => Ok(Err(error)),
                            Answer::Result(None) | Answer::Done => {
                                Ok(Err(io::ErrorKind::NotFound.into()))
                            }
                        });
                    });
                    if let Err(silence) = received.await {
                        break Some(silence);
                    }
                },
            };
            match found {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(malformed)) => {
                    problem = KernelError::Protocol {
                        what: what.clone(),
                        detail: malformed.to_string(),
                    };
                }
                None => {}
            }
            if let Some(silence) = silence {
                self.recover(silence);
            }
        }
        Err(problem)
    }
}
