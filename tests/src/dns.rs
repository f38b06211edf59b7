//! A minimal DNS client (RFC 1035): one query for an A record, over UDP or TCP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::client::{Ask, connect};

const ID: u16 = 0x4652;

/// Queries over UDP.
pub fn over_udp(server: SocketAddr, name: &str, ask: Ask) -> io::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ask.source_port))?;
    socket.set_read_timeout(Some(ask.timeout))?;
    socket.connect(server)?;
    socket.send(&question(name))?;
    let mut buffer = [0; 1500];
    let count = socket.recv(&mut buffer)?;
    addresses(&buffer[..count])
}

/// Queries over TCP, where a length precedes each message (section 4.2.2).
pub fn over_tcp(server: SocketAddr, name: &str, ask: Ask) -> io::Result<Vec<Ipv4Addr>> {
    let mut stream = connect(server, ask)?;
    let question = question(name);
    let length = u16::try_from(question.len()).expect("a question is short");
    stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    addresses(&message)
}

fn question(name: &str) -> Vec<u8> {
    let mut message = Vec::new();
    // Header: id, recursion desired, one question.
    for word in [ID, 0x0100, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The A records of an answer.
fn addresses(message: &[u8]) -> io::Result<Vec<Ipv4Addr>> {
    parse(message).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not the answer to the question: {message:02x?}"),
        )
    })
}

fn parse(message: &[u8]) -> Option<Vec<Ipv4Addr>> {
    let word = |at: usize| {
        Some(u16::from_be_bytes([
            *message.get(at)?,
            *message.get(at + 1)?,
        ]))
    };
    let is_answer = word(2)? & 0x8000 != 0 && word(2)? & 0xf == 0;
    if word(0)? != ID || !is_answer {
        return None;
    }
    // Skip the one question: its name, type and class.
    let mut at = skip_name(message, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..word(6)? {
        at = skip_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        if kind == 1 {
            let octets: [u8; 4] = data.try_into().ok()?;
            found.push(octets.into());
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // A pointer ends a name (section 4.1.4).
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}
