//! The defaults of the profiles, which the file can override.

use std::time::Duration;

use http::HeaderName;

use crate::config::file::{Preset, Profile};
use crate::policy::OrgPin;

/// The organisation of `JumpServer` that sees all others.
pub(super) const ROOT_ORG: &str = "00000000-0000-0000-0000-000000000000";

/// The aliases of `JumpServer` for organisations, with their ids.
const JUMPSERVER_ORGS: &[(&str, &str)] = &[
    ("default", "00000000-0000-0000-0000-000000000002"),
    ("root", ROOT_ORG),
    ("system", "00000000-0000-0000-0000-000000000004"),
];

/// Paths that Django of `JumpServer` 4.10.16 knows without a slash at the end, and files that its nginx serves. A list
/// requested as `.json`, `.csv` or `.xlsx` ends in that suffix, with or without a slash.
const JUMPSERVER_SLASHLESS: &[&str] = &[
    "/api/swagger.*",
    "/api/**/*.json",
    "/api/**/*.csv",
    "/api/**/*.xlsx",
    "/core/auth/oauth2-provider/.well-known/**",
    "/core/flower/**",
    "/media/**",
    "/static/**",
    "/download/**",
    "/**/*.wav",
];

/// The defaults of a product, which the file can override.
pub(super) struct Defaults {
    pub(super) trailing_slash: bool,
    /// Patterns of the paths that the product knows only without a slash at their end.
    pub(super) slashless: &'static [&'static str],
    /// Whether the product answers 401 before it changes anything.
    pub(super) repeat_after_401: bool,
    pub(super) link_members: &'static [&'static str],
    /// Headers that the product's clients send besides those that every upstream receives.
    pub(super) client_headers: &'static [&'static str],
    pub(super) org: Option<OrgPin>,
    pub(super) accept: &'static str,
    /// Shorter than the time after which the product closes idle connections.
    pub(super) pool_idle: Duration,
    /// The path of the product's public health check.
    pub(super) health: Option<&'static str>,
    /// The login that the product has.
    pub(super) login: Option<Preset>,
    /// The URL that issues tokens to OAuth 2.0 clients.
    pub(super) token_url: Option<&'static str>,
    /// The scope of the tokens of OAuth 2.0 clients.
    pub(super) scope: Option<&'static str>,
}

impl Defaults {
    /// The defaults of a product that is not known.
    const PLAIN: Self = Self {
        trailing_slash: false,
        slashless: &[],
        repeat_after_401: false,
        link_members: &[],
        client_headers: &[],
        org: None,
        accept: "*/*",
        pool_idle: Duration::from_secs(4),
        health: None,
        login: None,
        token_url: None,
        scope: None,
    };

    pub(super) fn of(profile: Profile) -> Self {
        let pin = |header, query, words| {
            Some(OrgPin { header: HeaderName::from_static(header), query, words, names: Vec::new() })
        };
        match profile {
            Profile::JumpServer => Self {
                trailing_slash: true,
                slashless: JUMPSERVER_SLASHLESS,
                repeat_after_401: true,
                link_members: &["next", "previous"],
                org: pin("x-jms-org", Some("oid"), JUMPSERVER_ORGS),
                accept: "application/json",
                pool_idle: Duration::from_millis(1500),
                health: Some("/api/health/"),
                login: Some(Preset::JumpServer),
                ..Self::PLAIN
            },
            Profile::JumpCloud => Self {
                // JumpCloud's generated clients use it to ask for the number of all objects.
                client_headers: &["x-total-count"],
                org: pin("x-org-id", None, &[]),
                token_url: Some("https://admin-oauth.id.jumpcloud.com/oauth2/token"),
                scope: Some("api"),
                ..Self::PLAIN
            },
            Profile::Foresight => Self {
                trailing_slash: true,
                slashless: &[
                    "/**/*.json",
                    "/**/*.csv",
                    "/**/*.xlsx",
                    "/**/*.yaml",
                    "/media/**",
                    "/static/**",
                ],
                link_members: &["next", "previous"],
                login: Some(Preset::Foresight),
                ..Self::PLAIN
            },
            Profile::Plain => Self::PLAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PathPattern;

    #[test]
    fn every_pattern_of_a_product_is_one() {
        for profile in [Profile::JumpServer, Profile::JumpCloud, Profile::Foresight, Profile::Plain] {
            for pattern in Defaults::of(profile).slashless {
                assert!(PathPattern::parse(pattern).is_ok(), "{pattern}");
            }
        }
    }

    /// The list of `JumpServer` 4.10.16's own paths: the product knows each of them as it is written.
    #[test]
    fn a_path_of_jumpservers_gets_its_slash_where_it_is_known_with_one() {
        let patterns: Vec<_> =
            JUMPSERVER_SLASHLESS.iter().map(|pattern| PathPattern::parse(pattern)).collect();
        let slashless = |path: &str| patterns.iter().flatten().any(|pattern| pattern.matches(path));
        let table = include_str!("../../../tests/it/cases/packs/jumpserver.paths");
        let paths =
            table.lines().filter_map(|line| line.split(' ').next()).filter(|path| path.starts_with('/'));
        let (with, without): (Vec<_>, Vec<_>) = paths.partition(|path| path.ends_with('/'));
        assert!(with.len() > 700 && without.len() > 5, "{} {}", with.len(), without.len());
        for path in with.iter().filter(|path| **path != "/") {
            assert!(!slashless(path.trim_end_matches('/')), "{path}");
        }
        for path in without {
            assert!(slashless(path), "{path}");
        }
    }
}
