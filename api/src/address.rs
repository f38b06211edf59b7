//! Addresses and networks as Kubernetes reads them from text.
//!
//! In API servers before 1.36 and in kube-proxy, a part of an IPv4 address with leading zeros is a decimal number: 010 is ten
//! (Go's old `net.ParseIP`). Objects that were stored then keep that form.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

/// Reads an address. An IPv4-mapped IPv6 address is the IPv4 address, as in Go.
pub fn parse(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = without_zeros(text.trim()).parse().ok()?;
    Some(ip.to_canonical())
}

/// Reads a network in CIDR notation; bits beyond the prefix are kept.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.trim().split_once('/')?;
    // Rust's numbers may have a plus sign.
    let digits = prefix.bytes().all(|b| b.is_ascii_digit());
    let prefix = Some(prefix).filter(|_| digits)?;
    IpNet::new(without_zeros(address).parse().ok()?, prefix.parse().ok()?).ok()
}

/// The text without the leading zeros of the IPv4 parts in it, which may stand at the end of an IPv6 address.
fn without_zeros(text: &str) -> Cow<'_, str> {
    let (before, dotted) = match text.rfind(':') {
        Some(colon) => text.split_at(colon + 1),
        None => ("", text),
    };
    let zeros = |part: &str| part.len() > 1 && part.starts_with('0');
    if !dotted.contains('.') || !dotted.split('.').any(zeros) {
        return Cow::Borrowed(text);
    }
    let parts = dotted
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            short => short,
        });
    Cow::Owned(before.to_owned() + &parts.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_decimal_and_everything_else_is_as_strict_as_ever() {
        for (text, expected) in [
            ("192.0.002.050", Some("192.0.2.50")),
            ("010.000.0.08", Some("10.0.0.8")),
            (" 192.0.2.1 ", Some("192.0.2.1")),
            ("::ffff:010.0.0.1", Some("10.0.0.1")),
            ("64:ff9b::192.0.02.1", Some("64:ff9b::c000:201")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("192.0.2.0256", None),
            ("192.0.2.", None),
            ("192.0.2", None),
            ("192.0.2.0x1", None),
            ("192.0.2.O1", None),
            ("", None),
        ] {
            let read = parse(text).map(|ip| ip.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("010.0.0.0/8", Some("10.0.0.0/8")),
            ("192.0.002.1/24", Some("192.0.2.1/24")),
            ("2001:db8::/32", Some("2001:db8::/32")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0", None),
        ] {
            let read = parse_net(text).map(|net| net.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
