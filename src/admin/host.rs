//! Host check of the admin listener. A web page can point its own name to this machine (DNS rebinding) and then read
//! the responses. The listener therefore responds only under names that no stranger can choose.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::HOST;
use http::{Request, StatusCode, Version};

/// Why the listener refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misdirected {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: &'static str,
}

/// Checks that a request is for this listener: an IP address, `localhost`, or one of `hosts`.
pub(super) fn check<B>(request: &Request<B>, hosts: &[String]) -> Result<(), Misdirected> {
    let malformed = |detail| Misdirected { status: StatusCode::BAD_REQUEST, code: "malformed", detail };
    let mut lines = request.headers().get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (_, Some(_)) => return Err(malformed("there are two Host lines")),
        (None, None) if request.version() > Version::HTTP_10 => {
            return Err(malformed("there is no Host line"));
        }
        (host, None) => host.map(|host| host.to_str().unwrap_or_default()),
    };
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let all_ours = [host, authority].into_iter().flatten().all(|name| is_ours(name, hosts));
    if all_ours { Ok(()) } else { Err(UNKNOWN) }
}

const UNKNOWN: Misdirected = Misdirected {
    status: StatusCode::MISDIRECTED_REQUEST,
    code: "unknown_host",
    detail: "the admin listener does not answer under this name: call it by an IP address or as localhost, or list \
             the name in `hosts` of `[admin]`",
};

fn is_ours(authority: &str, hosts: &[String]) -> bool {
    let is_port = |rest: &str| rest.bytes().all(|digit| digit.is_ascii_digit());
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let port = if rest.is_empty() { Some(rest) } else { rest.strip_prefix(':') };
        return address.parse::<Ipv6Addr>().is_ok() && port.is_some_and(is_port);
    }
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_name = |host: &str| name.eq_ignore_ascii_case(host);
    let known = is_name("localhost") || hosts.iter().any(|host| is_name(host));
    (known || name.parse::<Ipv4Addr>().is_ok()) && is_port(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_what_is_configured_are_ours() {
        let hosts = ["gw.internal".to_owned()];
        for ours in [
            "127.0.0.1",
            "127.0.0.1:7071",
            "10.0.0.7:1",
            "[::1]",
            "[::1]:7071",
            "[fd00::7]:7071",
            "localhost",
            "LocalHost:7071",
            "localhost.",
            "localhost.:7071",
            "gw.internal",
            "GW.Internal:7071",
            "gw.internal.",
        ] {
            assert!(is_ours(ours, &hosts), "{ours}");
        }
        for strange in [
            "",
            ":7071",
            "evil.test",
            "evil.test:7071",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "127.1",
            "0x7f.0.0.1",
            "2130706433",
            "::1",
            "[::1",
            "[::1]7071",
            "[::1]:x",
            "[evil.test]",
            "localhost:x",
            "a@localhost",
            "localhost:80@evil.test",
            "localhost ",
            "gw.internal..",
            "xgw.internal",
            "internal",
        ] {
            assert!(!is_ours(strange, &hosts), "{strange}");
        }
        assert!(!is_ours("gw.internal", &[]));
    }
}
