//! The wire format of the messages between nodes. `codec`, `message` and `state` encode, `key` and `seal` protect, `session`
//! rejects old datagrams, and `transport` sends and receives. The meaning of the messages is not handled here.

pub mod codec;
pub mod key;
pub mod message;
pub mod seal;
pub mod session;
mod state;
pub mod transport;

#[cfg(test)]
mod tests;
