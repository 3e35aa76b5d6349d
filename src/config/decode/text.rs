//! Reads strings, and values written as strings: names, addresses, paths, dates, digests.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{Node, Read};
use crate::config::problem::Problem;
use crate::config::problem::redact;
use crate::config::span::{Span, Spanned};

/// Reads a non-empty string of one line without control characters.
pub(in crate::config) fn line(node: &Node<'_>) -> Read<Spanned<String>> {
    let text = string(node)?;
    if text.is_empty() {
        return Err(node.refuse(format!("{} must not be empty", node.subject())));
    }
    if text.chars().any(char::is_control) {
        return Err(node.refuse(format!("{} must not hold control characters", node.subject())));
    }
    Ok(node.at(text.to_owned()))
}

/// Reads a string for a quoted header parameter: visible ASCII except `"` and `\`, at most 256 bytes.
pub(in crate::config) fn visible(node: &Node<'_>) -> Read<Spanned<String>> {
    let text = line(node)?;
    let plain = |letter: char| letter.is_ascii_graphic() && letter != '"' && letter != '\\';
    if text.value.len() > 256 || !text.value.chars().all(plain) {
        let title = format!(
            "{} must be at most 256 visible ASCII characters, no quotes or backslashes",
            node.subject()
        );
        return Err(node.refuse(title));
    }
    Ok(text)
}

/// Reads the name of a trail in its signed heads.
pub(in crate::config) fn origin(node: &Node<'_>) -> Read<String> {
    let text = line(node)?.value;
    if crate::audit::is_origin(&text) {
        return Ok(text);
    }
    let title = format!("{} must be at most 128 characters, without blanks or `+`", node.subject());
    Err(node.refuse(title))
}

/// Reads the name of an object that the file declares.
pub(in crate::config) fn name(node: &Node<'_>) -> Read<Spanned<String>> {
    let text = string(node)?;
    match check_name(text, node.span(), &node.subject()) {
        None => Ok(node.at(text.to_owned())),
        Some(problem) => {
            if node.path.ends_with("credential") {
                node.hide(); // an invalid name may be the secret itself
            }
            Err(node.report(problem))
        }
    }
}

/// Reads the name of a role of the file, or of a shipped one: `pack:role`.
pub(in crate::config) fn role(node: &Node<'_>) -> Read<Spanned<String>> {
    let text = string(node)?;
    let problem = text.splitn(2, ':').find_map(|part| check_name(part, node.span(), &node.subject()));
    problem.map_or_else(|| Ok(node.at(text.to_owned())), |problem| Err(node.report(problem)))
}

/// The problem with a name, unless it is a letter or digit and then up to 63 letters, digits, `.`, `_` or `-`.
pub(in crate::config) fn check_name(name: &str, span: Span, subject: &str) -> Option<Problem> {
    let first = name.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    let rest = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-'));
    if first && rest && name.len() <= 64 {
        return None;
    }
    let help = "a name is 1 to 64 letters, digits, `.`, `_` or `-`, and starts with a letter or digit";
    Some(Problem::error(span, format!("{subject} is not a name that can be used")).help(help))
}

/// Reads an IP address with a port.
pub(in crate::config) fn address(node: &Node<'_>) -> Read<Spanned<SocketAddr>> {
    let text = string(node)?;
    if let Ok(address) = text.parse() {
        return Ok(node.at(address));
    }
    let port = |port: &str| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let help = match text.rsplit_once(':').filter(|(_, digits)| port(digits)) {
        Some(("", port)) => {
            format!("say on which address: \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all")
        }
        Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        _ => "write an IP address and a port, as in \"127.0.0.1:7070\" or \"[::1]:7070\"".to_owned(),
    };
    let title = format!("{} is not a socket address", node.subject());
    Err(node.report(Problem::error(node.span(), title).help(help)))
}

/// Reads a host name as in a `Host` header, without a port; returns it in lower case, without a dot at its end.
pub(in crate::config) fn host(node: &Node<'_>) -> Read<String> {
    let text = string(node)?;
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
        !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(name.to_ascii_lowercase());
    }
    let title = format!("{} is not the name of a host", node.subject());
    let help =
        "write the name alone, without a scheme or port, as in \"gw.internal\"; addresses need not be listed";
    Err(node.report(Problem::error(node.span(), title).help(help)))
}

/// Reads a network in CIDR notation (RFC 4632, RFC 4291 §2.3).
pub(in crate::config) fn network(node: &Node<'_>) -> Read<IpNet> {
    let text = string(node)?;
    let (help, read) = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) if network.addr() != network.network() => {
            (format!("write \"{}\"", network.trunc()), None)
        }
        (Ok(IpNet::V6(network)), _) if network.addr().to_ipv4_mapped().is_some() => {
            ("write an IPv4 network as such, as in \"10.0.0.0/8\"".to_owned(), None)
        }
        (Ok(network), _) => (String::new(), Some(network)),
        (Err(_), Ok(address)) => (format!("write \"{}\"", IpNet::from(address)), None),
        (Err(_), Err(_)) => (
            "write an address and the length of its prefix, as in \"10.0.0.0/8\" or \"fd00::/64\"".to_owned(),
            None,
        ),
    };
    read.ok_or_else(|| {
        let title = format!("{} is not a network in CIDR notation", node.subject());
        node.report(Problem::error(node.span(), title).help(help))
    })
}

/// Reads a path; a relative path starts in the folder of the file.
pub(in crate::config) fn path(node: &Node<'_>) -> Read<Spanned<PathBuf>> {
    line(node).map(|path| path.map(|path| node.base().join(path)))
}

/// Reads the name of an environment variable.
pub(in crate::config) fn variable(node: &Node<'_>) -> Read<Spanned<String>> {
    let name = string(node)?;
    if redact::is_variable(name) {
        return Ok(node.at(name.to_owned()));
    }
    node.hide(); // an invalid name may be the secret itself
    let title = format!("{} must be the name of an environment variable", node.subject());
    Err(node.report(
        Problem::error(node.span(), title).help("write the name alone, without `$`, as in \"JMS_SECRET\""),
    ))
}

/// Reads an instant: RFC 3339 in a string, or a TOML date-time with an offset.
pub(in crate::config) fn instant(node: &Node<'_>) -> Read<Spanned<Timestamp>> {
    let text = match (node.value().as_datetime(), node.value().as_str()) {
        (Some(date), _) => date.to_string(),
        (_, Some(text)) => text.to_owned(),
        (None, None) => return Err(node.report_type("a date, as in \"2027-01-01T00:00:00Z\"")),
    };
    text.parse().map(|instant| node.at(instant)).map_err(|_| {
        let title = format!("{} is not a date and time with its offset", node.subject());
        node.report(Problem::error(node.span(), title).help("write it as in \"2027-01-01T00:00:00Z\""))
    })
}

/// Reads a SHA-256 digest in hexadecimal. An invalid value may be the token itself, so no message shows it.
pub(in crate::config) fn digest(node: &Node<'_>) -> Read<Spanned<[u8; 32]>> {
    let text = string(node).inspect_err(|_| node.hide())?;
    let mut digest = [0; 32];
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let read = pairs.zip(&mut digest).try_for_each(|(pair, byte)| {
        let pair = pair.filter(|pair| pair.bytes().all(|letter| letter.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
        Some(())
    });
    if read.is_some() && text.len() == 64 {
        return Ok(node.at(digest));
    }
    node.hide();
    let title = format!("{} must be a SHA-256 digest: 64 hexadecimal digits", node.subject());
    let problem =
        Problem::error(node.span(), title).label(format!("found {} characters", text.chars().count()));
    Err(node.report(
        problem.help("`printf %s TOKEN | sha256sum` gives it; the token itself does not belong here"),
    ))
}

fn string<'a>(node: &Node<'a>) -> Read<&'a str> {
    node.value().as_str().ok_or_else(|| node.report_type("a string"))
}
