//! `lab-http NAME KIND:PORT...`: the small server of the lab's pods. It answers with its name and the address of its peer.
//!
//! - `http:PORT` answers each request with one line, `pod=NAME from=ADDRESS:PORT path=PATH`, and keeps the connection on request;
//! - `tcp:PORT` sends that line as a greeting and then echoes each line, prefixed with its name, until the client disconnects;
//! - `udp:PORT` answers each datagram with `pod=NAME from=ADDRESS:PORT ` and the datagram.
#![allow(missing_docs)]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    // UDP comes first: a client that sees a TCP port accept may rely on the UDP ports too, which cannot be probed without side
    // effects.
    let (datagrams, streams): (Vec<String>, Vec<String>) =
        arguments.partition(|argument| argument.starts_with("udp:"));
    let mut threads = Vec::new();
    for argument in datagrams.into_iter().chain(streams) {
        match start(&name, &argument) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                eprintln!("lab-http: {argument}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
    ExitCode::SUCCESS
}

fn start(name: &str, argument: &str) -> io::Result<std::thread::JoinHandle<()>> {
    let unknown = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "want http:PORT, tcp:PORT or udp:PORT",
        )
    };
    let (kind, port) = argument.split_once(':').ok_or_else(unknown)?;
    let port: u16 = port.parse().map_err(|_| unknown())?;
    let name = name.to_owned();
    // Both families if the machine has both.
    let addresses = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ];
    let converse: fn(&str, TcpStream) -> io::Result<()> = match kind {
        "http" => http,
        "tcp" => echo,
        "udp" => {
            let socket = UdpSocket::bind(&addresses[..])?;
            return Ok(std::thread::spawn(move || datagrams(&name, &socket)));
        }
        _ => return Err(unknown()),
    };
    let listener = TcpListener::bind(&addresses[..])?;
    Ok(std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || converse(&name, stream));
        }
    }))
}

/// The peer; an IPv4-mapped address is converted to IPv4.
fn seen(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn http(name: &str, stream: TcpStream) -> io::Result<()> {
    let from = seen(stream.peer_addr()?);
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut keep = !request.contains("HTTP/1.0");
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            let header = header.to_ascii_lowercase();
            if header.starts_with("connection:") {
                keep = !header.contains("close");
            }
        }
        let path = request.split_whitespace().nth(1).unwrap_or("/");
        let body = format!("pod={name} from={from} path={path}\n");
        let connection = if keep { "keep-alive" } else { "close" };
        let length = body.len();
        writer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}").as_bytes())?;
        if !keep {
            return Ok(());
        }
    }
}

fn echo(name: &str, stream: TcpStream) -> io::Result<()> {
    let from = seen(stream.peer_addr()?);
    stream.set_nodelay(true)?;
    let reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    writer.write_all(format!("pod={name} from={from}\n").as_bytes())?;
    for line in reader.lines() {
        writer.write_all(format!("{name} {}\n", line?).as_bytes())?;
    }
    Ok(())
}

fn datagrams(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    // An error is an ICMP message about an earlier datagram, so continue.
    loop {
        if let Ok((count, from)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("pod={name} from={} ", seen(from)).into_bytes();
            answer.extend_from_slice(&buffer[..count]);
            let _ = socket.send_to(&answer, from);
        }
    }
}
