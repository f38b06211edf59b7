//! What nodes say to each other as bytes: `codec`, `message` and `state` encode, `key` and `seal` protect, `session` keeps out what is
//! old, `transport` moves the datagrams. What the messages mean is none of its business.

pub mod codec;
pub mod key;
pub mod message;
pub mod seal;
pub mod session;
mod state;
pub mod transport;

#[cfg(test)]
mod tests;
