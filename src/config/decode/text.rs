//! Reads strings, and values written as strings: names, addresses, paths, dates, digests.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use jiff::Timestamp;

use super::reader::Reader;
use super::shape::Shape;
use crate::config::problem::{Problem, redact};
use crate::config::span::{Span, Spanned};
use crate::encoding::parse_hex;
use crate::name::Name;

/// The regular expression of a name.
pub(super) const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";

/// Reads a non-empty string of one line without control characters.
pub(in crate::config) fn line() -> Reader<Spanned<String>> {
    string(r"^[^\u0000-\u001f\u007f-\u009f]+$").check(|text| {
        let has_controls = text.value.chars().any(char::is_control);
        let fault =
            if text.value.is_empty() { "must not be empty" } else { "must not hold control characters" };
        (text.value.is_empty() || has_controls).then_some(fault)
    })
}

/// Reads a string for a quoted header parameter: visible ASCII except `"` and `\`, at most 256 bytes.
pub(in crate::config) fn visible() -> Reader<Spanned<String>> {
    line().of_shape(Shape::Text(r"^[!#-\[\]-~]{1,256}$")).check(|text| {
        let plain = |letter: char| letter.is_ascii_graphic() && letter != '"' && letter != '\\';
        let fits = text.value.len() <= 256 && text.value.chars().all(plain);
        (!fits).then_some("must be at most 256 visible ASCII characters, no quotes or backslashes")
    })
}

/// Reads a JSON pointer; compiling parses it.
pub(in crate::config) fn pointer() -> Reader<Spanned<String>> {
    line().of_shape(Shape::Text("^/"))
}

/// Reads the name of a trail in its signed heads.
pub(in crate::config) fn origin() -> Reader<String> {
    let read = line().of_shape(Shape::Text(r"^[^\s+]{1,128}$")).check(|text| {
        let fits = crate::audit::is_origin(&text.value);
        (!fits).then_some("must be at most 128 characters, without blanks or `+`")
    });
    read.map(|text| text.value).written(|text| format!("{text:?}"))
}

/// Reads the name of an object that the file declares.
pub(in crate::config) fn name() -> Reader<Spanned<Name>> {
    string(NAME).then(|node, text| {
        Name::parse(&text.value).map(|name| node.at(name)).ok_or_else(|| {
            if node.path().ends_with("credential") {
                node.hide(); // an invalid name may be the secret itself
            }
            node.report(no_name(node.span(), &node.subject()))
        })
    })
}

/// Reads the name of a role of the file, or of a shipped one: `pack:role`.
pub(in crate::config) fn role() -> Reader<Spanned<String>> {
    let pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$";
    string(pattern).then(|node, text| {
        if text.value.splitn(2, ':').all(|part| Name::parse(part).is_some()) {
            return Ok(text);
        }
        Err(node.report(no_name(node.span(), &node.subject())))
    })
}

/// The problem with a text that is no name.
pub(super) fn no_name(span: Span, subject: &str) -> Problem {
    let help = "a name is 1 to 64 letters, digits, `.`, `_` or `-`, and starts with a letter or digit";
    Problem::error(span, format!("{subject} is not a name that can be used")).help(help)
}

/// Reads an IP address with a port.
pub(in crate::config) fn address() -> Reader<Spanned<SocketAddr>> {
    let read = string(r"^([0-9.]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}$").then(|node, text| {
        text.value.parse().map(|address| node.at(address)).map_err(|_| {
            let port = |port: &str| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
            let help = match text.value.rsplit_once(':').filter(|(_, digits)| port(digits)) {
                Some(("", port)) => {
                    format!("say on which address: \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all")
                }
                Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
                _ => "write an IP address and a port, as in \"127.0.0.1:7070\" or \"[::1]:7070\"".to_owned(),
            };
            node.report(node.problem("is not a socket address").help(help))
        })
    });
    read.written(|address: &Spanned<SocketAddr>| format!("\"{}\"", address.value))
}

/// Reads a host name as in a `Host` header, without a port; returns it in lower case, without a dot at its end.
pub(in crate::config) fn host() -> Reader<String> {
    string("^[A-Za-z0-9_-]{1,63}([.][A-Za-z0-9_-]{1,63})*[.]?$").then(|node, text| {
        let name = text.value.strip_suffix('.').unwrap_or(&text.value);
        let label = |label: &str| {
            let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_');
            !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
        };
        if name.len() <= 253 && name.split('.').all(label) {
            return Ok(name.to_ascii_lowercase());
        }
        let help =
            "write the name alone, without a scheme or port, as in \"gw.internal\"; addresses need not be listed";
        Err(node.report(node.problem("is not the name of a host").help(help)))
    })
}

/// Reads a network in CIDR notation (RFC 4632, RFC 4291 §2.3).
pub(in crate::config) fn network() -> Reader<IpNet> {
    string("^[0-9a-fA-F.:]+/[0-9]{1,3}$").then(|node, text| {
        let help = match (text.value.parse::<IpNet>(), text.value.parse::<IpAddr>()) {
            (Ok(network), _) if network.addr() != network.network() => {
                format!("write \"{}\"", network.trunc())
            }
            (Ok(IpNet::V6(network)), _) if network.addr().to_ipv4_mapped().is_some() => {
                "write an IPv4 network as such, as in \"10.0.0.0/8\"".to_owned()
            }
            (Ok(network), _) => return Ok(network),
            (Err(_), Ok(address)) => format!("write \"{}\"", IpNet::from(address)),
            (Err(_), Err(_)) => {
                "write an address and the length of its prefix, as in \"10.0.0.0/8\" or \"fd00::/64\""
                    .to_owned()
            }
        };
        Err(node.report(node.problem("is not a network in CIDR notation").help(help)))
    })
}

/// Reads a URL. It must not contain a name or password, which belong in a credential.
pub(in crate::config) fn url() -> Reader<Spanned<String>> {
    line().then(|node, url| {
        let authority = url.value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
        if authority.is_some_and(|authority| authority.contains('@')) {
            node.hide();
            let help = "put what the upstream wants to see in a credential, and name that";
            return Err(node.report(node.problem("must not hold a name or password").help(help)));
        }
        Ok(url)
    })
}

/// Reads a path; a relative path starts in the folder of the file.
pub(in crate::config) fn path() -> Reader<Spanned<PathBuf>> {
    line().then(|node, path| Ok(path.map(|path| node.base().join(path))))
}

/// Reads the name of an environment variable.
pub(in crate::config) fn variable() -> Reader<Spanned<String>> {
    string("^[A-Za-z_][A-Za-z0-9_]*$").then(|node, name| {
        if redact::is_variable(&name.value) {
            return Ok(name);
        }
        node.hide(); // an invalid name may be the secret itself
        let problem = node.problem("must be the name of an environment variable");
        Err(node.report(problem.help("write the name alone, without `$`, as in \"JMS_SECRET\"")))
    })
}

/// Reads an instant: RFC 3339 in a string, or a TOML date-time with an offset.
pub(in crate::config) fn instant() -> Reader<Spanned<Timestamp>> {
    Reader::new(Shape::Time, |node| {
        let text = match (node.value().as_datetime(), node.value().as_str()) {
            (Some(date), _) => date.to_string(),
            (_, Some(text)) => text.to_owned(),
            (None, None) => return Err(node.report_type("a date, as in \"2027-01-01T00:00:00Z\"")),
        };
        text.parse().map(|instant| node.at(instant)).map_err(|_| {
            let problem = node.problem("is not a date and time with its offset");
            node.report(problem.help("write it as in \"2027-01-01T00:00:00Z\""))
        })
    })
}

/// Reads a SHA-256 digest in hexadecimal. An invalid value may be the token itself, so no message shows it.
pub(in crate::config) fn digest() -> Reader<Spanned<[u8; 32]>> {
    Reader::new(Shape::Text("^[0-9A-Fa-f]{64}$"), |node| {
        let text = string("").read(node).inspect_err(|_| node.hide())?.value;
        parse_hex(&text).map(|digest| node.at(digest)).ok_or_else(|| {
            node.hide();
            let problem = node.problem("must be a SHA-256 digest: 64 hexadecimal digits");
            let problem = problem.label(format!("found {} characters", text.chars().count()));
            node.report(
                problem.help("`printf %s TOKEN | sha256sum` gives it; the token itself does not belong here"),
            )
        })
    })
}

/// Reads any string; `pattern` describes those that a further check accepts.
fn string(pattern: &'static str) -> Reader<Spanned<String>> {
    Reader::new(Shape::Text(pattern), |node| {
        let text = node.value().as_str().ok_or_else(|| node.report_type("a string"))?;
        Ok(node.at(text.to_owned()))
    })
    .written(|text| format!("{:?}", text.value))
}
