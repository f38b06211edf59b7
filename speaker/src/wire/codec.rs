//! Numbers, addresses and names as big-endian bytes. No read goes beyond the end of the buffer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::message::{MAX_NAME, NodeName};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends too early.
    #[error("the message is cut short")]
    Short,
    /// Bytes follow its end.
    #[error("bytes follow the end of the message")]
    Long,
    /// It has a kind, tag or index that this version does not know.
    #[error("{0} is unknown")]
    Unknown(&'static str),
    /// A list or number exceeds the limits of the protocol.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
}

/// Why a message can't be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// It exceeds a limit of the protocol.
    #[error("{0} is out of bounds")]
    Bounds(&'static str),
}

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// One octet.
    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    /// Two octets.
    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// Four octets.
    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// Eight octets.
    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_be_bytes());
    }

    /// A count of two octets.
    pub fn count(&mut self, v: usize) -> Result<(), EncodeError> {
        self.u16(u16::try_from(v).map_err(|_| EncodeError::Bounds("a list's length"))?);
        Ok(())
    }

    /// One octet of length, then the name.
    pub fn name(&mut self, name: &NodeName) -> Result<(), EncodeError> {
        let bytes = name.as_str().as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_NAME {
            return Err(EncodeError::Bounds("the length of a node's name"));
        }
        self.u8(bytes.len() as u8);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// A tag (4 or 6), then the octets.
    pub fn address(&mut self, address: &IpAddr) {
        match address {
            IpAddr::V4(a) => {
                self.u8(4);
                self.0.extend_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                self.u8(6);
                self.0.extend_from_slice(&a.octets());
            }
        }
    }

    /// A count of two octets, then the addresses.
    pub fn addresses(&mut self, addresses: &[IpAddr]) -> Result<(), EncodeError> {
        self.count(addresses.len())?;
        addresses.iter().for_each(|a| self.address(a));
        Ok(())
    }
}

/// Takes values from a buffer.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// `n` octets.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(DecodeError::Short)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Short)
    }

    /// One octet.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    /// Two octets.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight octets.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// 0 or 1.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Unknown("a flag")),
        }
    }

    /// A list whose items take at least `least` octets each. If the rest of the buffer can't hold the count, it is refused before
    /// any memory is reserved.
    pub fn list<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::from(self.u16()?);
        if count.saturating_mul(least) > self.0.len() {
            return Err(DecodeError::Short);
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// A name.
    pub fn name(&mut self) -> Result<NodeName, DecodeError> {
        let length = usize::from(self.u8()?);
        if length == 0 || length > MAX_NAME {
            return Err(DecodeError::Bounds("the length of a node's name"));
        }
        let text = std::str::from_utf8(self.take(length)?)
            .map_err(|_| DecodeError::Unknown("a character of a name"))?;
        Ok(NodeName::from(text))
    }

    /// An address.
    pub fn address(&mut self) -> Result<IpAddr, DecodeError> {
        match self.u8()? {
            4 => Ok(Ipv4Addr::from(self.array::<4>()?).into()),
            6 => Ok(Ipv6Addr::from(self.array::<16>()?).into()),
            _ => Err(DecodeError::Unknown("an address family")),
        }
    }

    /// A list of addresses.
    pub fn addresses(&mut self) -> Result<Vec<IpAddr>, DecodeError> {
        self.list(5, Self::address)
    }

    /// Refuses bytes after the end.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Long)
        }
    }
}
