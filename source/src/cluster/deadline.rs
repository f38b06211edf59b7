//! A deadline for every request to the API server: one layer of the client that all lists, watches and writes pass through.
//!
//! | part | limit |
//! |---|---|
//! | the start of an answer, and then each further piece | [`Limits::silence`] |
//! | a whole answer | [`Limits::whole`] |
//! | a whole watch | the `timeoutSeconds` that it requests plus [`Limits::grace`]; it may be silent between changes |
//!
//! `kube`'s own `Config::read_timeout` does not fit. It applies to a connection, so it would end every quiet watch, and a server
//! that sends a trickle never exceeds it. A request that is abandoned closes its connection (the client speaks HTTP/1.1 only), so
//! the next one does not wait on a dead connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service};

use super::requests::Requests;

#[cfg(test)]
mod tests;

/// Time limits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Without any new part of the answer.
    pub(super) silence: Duration,
    /// For the whole answer.
    pub(super) whole: Duration,
    /// Beyond the time that a watch requests.
    pub(super) grace: Duration,
}

impl Default for Limits {
    /// An API server itself abandons a request after 60 s (`--request-timeout`), and ends a watch on time.
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            whole: Duration::from_secs(60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Why a request was abandoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Late {
    /// The server is silent.
    #[error("no data arrived for {0:?}")]
    Silent(Duration),
    /// The server is too slow.
    #[error("the answer was not complete after {0:?}")]
    Slow(Duration),
    /// A watch continues beyond its end.
    #[error("a watch lasted {0:?}, although it should have ended earlier")]
    Endless(Duration),
}

impl Late {
    /// The value in an error's chain of causes, if there is one.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let chain = std::iter::successors(Some(error), |error| error.source());
        chain.into_iter().find_map(|e| e.downcast_ref().copied())
    }
}

/// The deadlines of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deadline {
    /// `None`: after the start of the answer, silence is allowed.
    silence: Option<Duration>,
    end: Instant,
    /// The reason to report if the end is reached.
    late: Late,
}

impl Limits {
    /// Chooses the deadlines by the request's URI.
    fn of(self, uri: &Uri, now: Instant) -> Deadline {
        let query = uri.query().unwrap_or_default();
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(n, _)| *n == name).map(|(_, v)| v)
        };
        if !matches!(value("watch"), Some("true" | "1")) {
            return Deadline {
                silence: Some(self.silence),
                end: now + self.whole,
                late: Late::Slow(self.whole),
            };
        }
        let asked = value("timeoutSeconds").and_then(|v| v.parse::<u32>().ok());
        // A watch that requests no timeout gets the limit of an ordinary answer.
        let asked = asked.map_or(self.whole, |seconds| Duration::from_secs(seconds.into()));
        let whole = asked + self.grace;
        Deadline {
            silence: None,
            end: now + whole,
            late: Late::Endless(whole),
        }
    }
}

/// The layer that gives every request its deadline.
#[derive(Debug, Clone, Default)]
pub(super) struct Deadlines {
    pub(super) limits: Limits,
    /// Where every request is counted.
    pub(super) requests: Requests,
}

impl<S> Layer<S> for Deadlines {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Bounded {
            inner,
            limits: self.limits,
            requests: self.requests.clone(),
        }
    }
}

/// The service that makes requests with a deadline.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    inner: S,
    limits: Limits,
    requests: Requests,
}

impl<S, A, B> Service<Request<A>> for Bounded<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let now = Instant::now();
        let deadline = self.limits.of(request.uri(), now);
        let silence = self.limits.silence;
        let method = request.method().clone();
        let requests = self.requests.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout_at(deadline.end.min(now + silence), answer).await;
            let status = answer.as_ref().ok().and_then(|a| a.as_ref().ok());
            requests.made(&method, status.map(Response::status));
            match answer {
                Ok(answer) => Ok(answer
                    .map_err(Into::into)?
                    .map(|body| Answer::new(body, deadline))),
                Err(_) if Instant::now() < deadline.end => Err(Late::Silent(silence).into()),
                Err(_) => Err(deadline.late.into()),
            }
        })
    }
}

/// The body of an answer, read until its deadline.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    deadline: Deadline,
    /// When to check whether it is late.
    alarm: Pin<Box<Sleep>>,
}

impl<B> Answer<B> {
    fn new(body: B, deadline: Deadline) -> Self {
        let at = deadline.next();
        Self {
            body,
            deadline,
            alarm: Box::pin(tokio::time::sleep_until(at)),
        }
    }
}

impl Deadline {
    /// The time by which something must arrive.
    fn next(&self) -> Instant {
        let quiet = self.silence.map(|silence| Instant::now() + silence);
        quiet.map_or(self.end, |quiet| quiet.min(self.end))
    }

    fn missed(&self) -> Late {
        match self.silence {
            Some(silence) if Instant::now() < self.end => Late::Silent(silence),
            _ => self.late,
        }
    }
}

impl<B> Body for Answer<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = &mut *self;
        // A server that always has a little more data never makes us wait, so the end is checked here too.
        if Instant::now() >= this.deadline.end {
            return Poll::Ready(Some(Err(this.deadline.late.into())));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.alarm.as_mut().reset(this.deadline.next());
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(this.alarm.as_mut().poll(cx));
        Poll::Ready(Some(Err(this.deadline.missed().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
