//! Scheme, host and port: where an upstream is reached, and where its credential may be sent.

use std::fmt;

/// An origin (RFC 6454) with an explicit port and a lower-case host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The host; an IPv6 address has no brackets.
    pub host: String,
    /// The port number.
    pub port: u16,
}

impl Origin {
    /// Splits an absolute `http` or `https` URL into its origin and the rest (`/path?query`, perhaps empty). `None` if
    /// it is no such URL, or has a user or a fragment.
    #[must_use]
    pub fn split(url: &str) -> Option<(Self, &str)> {
        let (tls, rest) = match url.split_once("://")? {
            (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        if authority.is_empty() || authority.contains(['@', '\\', ' ']) || path.contains('#') {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            // A URL may have the colon without the port (RFC 3986 §6.2.3).
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(text) => text.parse().ok().filter(|port| *port != 0)?,
        };
        if host.is_empty() {
            return None;
        }
        Some((Self { tls, host: host.to_ascii_lowercase(), port }, path))
    }

    /// Whether `other` has the same host and port, whatever the scheme. An upstream behind a TLS terminator builds its
    /// links with its own scheme, so the default ports of both schemes count as equal.
    #[must_use]
    pub fn same_authority(&self, other: &Self) -> bool {
        let default = |origin: &Self| origin.port == if origin.tls { 443 } else { 80 };
        self.host == other.host && (self.port == other.port || (default(self) && default(other)))
    }

    /// Whether the host is the local machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// The value of the `Host` header: `host[:port]`, without the default port.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Origin;

    #[test]
    fn splits_urls() {
        let (origin, rest) = Origin::split("https://JMS.example.com/jms/").unwrap();
        assert_eq!((origin.to_string().as_str(), rest), ("https://jms.example.com", "/jms/"));
        let (origin, rest) = Origin::split("http://[::1]:8080?x=1").unwrap();
        assert_eq!((origin.authority().as_str(), rest), ("[::1]:8080", "?x=1"));
        assert!(origin.is_loopback());
        for bad in
            ["", "/x", "ftp://h/", "http://", "http://u@h/", "http://h:0/", "http://h:x/", "http://h/#f"]
        {
            assert!(Origin::split(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_same_place_whatever_the_scheme() {
        let at = |url: &str| Origin::split(url).unwrap().0;
        assert!(at("http://h").same_authority(&at("https://h")));
        assert!(at("http://h:81").same_authority(&at("https://H:81")));
        assert!(!at("http://h:81").same_authority(&at("http://h")));
        assert!(!at("http://h").same_authority(&at("http://g")));
    }
}
