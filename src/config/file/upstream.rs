//! `[upstreams.…]`: the products that calls are forwarded to.

use std::path::PathBuf;
use std::time::Duration;

use super::scheme::Scheme;
use crate::config::Spanned;
use crate::config::decode::choice::{located, word};
use crate::config::decode::scalar::boolean;
use crate::config::decode::text::{line, name, path, visible};
use crate::config::decode::units::duration;
use crate::config::decode::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::transport::request_headers::check_added;
use crate::transport::{Network, NoNetwork};

/// A product that calls are forwarded to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The name of the upstream in routes and grants.
    pub name: Spanned<String>,
    /// The profile of the product, which sets its defaults.
    pub profile: Spanned<Profile>,
    /// The URL of the upstream, or the first of several; a path here is the base path.
    pub endpoint: Spanned<String>,
    /// The URLs of further endpoints.
    pub others: Vec<Spanned<String>>,
    /// The settings of the endpoints' health checks; absent for the profile's.
    pub health: Option<Spanned<Health>>,
    /// Networks of addresses that it may have beyond those allowed by default.
    pub allow_addresses: Vec<Network>,
    /// The organisation for grants that name none.
    pub org: Option<Spanned<String>>,
    /// The names of organisations, each with its id.
    pub org_names: Vec<(Spanned<String>, Spanned<String>)>,
    /// The credential for grants that name none.
    pub credential: Option<Spanned<String>>,
    /// The path of the certificate authorities to trust instead of the public ones, in PEM.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// What happens to the slash at the end of a path; absent for the profile's default.
    pub trailing_slash: Option<TrailingSlash>,
    /// Patterns of the paths to which no slash is added; absent for the profile's.
    pub slashless: Option<Vec<Spanned<String>>>,
    /// Whether the upstream answers 401 before it changes anything; absent for the profile's default.
    pub repeat_after_401: Option<bool>,
    /// The top-level JSON members whose links are rewritten; absent for the profile's.
    pub link_members: Option<Vec<Spanned<String>>>,
    /// Whether the endpoint's base path is part of the signed path.
    pub sign_base_path: bool,
    /// What happens to cookies; absent for the profile's default.
    pub cookies: Option<Cookies>,
    /// Names of a consumer's headers that the upstream receives besides the default ones; `*` stands for any text.
    pub pass_headers: Vec<Spanned<String>>,
    /// The paths at which calls may ask for a part of a body, although the credential is valid for any request.
    pub range_paths: Vec<Spanned<String>>,
    /// Whether the upstream learns the consumer's address.
    pub forwarded_for: ForwardedFor,
    /// How long an idle connection to the upstream is kept; absent for the profile's time.
    pub pool_idle: Option<Duration>,
    /// Whether the upstream may be reached in plaintext beyond this host.
    pub insecure_plaintext: Spanned<bool>,
    /// How the credential is put on a request.
    pub scheme: Spanned<Scheme>,
}

/// The settings of the health checks of an upstream's endpoints.
#[derive(Clone, Debug)]
pub struct Health {
    /// The path of the health check, below the base path; absent for the profile's path.
    pub path: Option<Spanned<String>>,
    /// The interval of the checks; `None` for no checks.
    pub interval: Option<Duration>,
}

/// The profile of an upstream product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The bastion `JumpServer`.
    JumpServer,
    /// The directory `JumpCloud`.
    JumpCloud,
    /// The platform `Foresight`.
    Foresight,
    /// No product in particular.
    Plain,
}

/// What happens to the slash at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailingSlash {
    /// A missing slash is added.
    Add,
    /// The path stays as it is.
    Keep,
}

/// What happens to cookies of requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// Cookies are dropped.
    Strip,
    /// Cookies are passed on.
    Pass,
}

/// What the upstream learns of the consumer's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The upstream learns nothing.
    None,
    /// The upstream gets the consumer's address in `X-Forwarded-For`.
    Consumer,
}

impl Profile {
    /// The product of the profile; `None` for [`Profile::Plain`], which may stand for any product.
    #[must_use]
    pub const fn product(self) -> Option<&'static str> {
        match self {
            Self::JumpServer => Some("jumpserver"),
            Self::JumpCloud => Some("jumpcloud"),
            Self::Foresight => Some("foresight"),
            Self::Plain => None,
        }
    }
}

impl Upstream {
    pub(super) fn read(called: Spanned<String>, node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let profile = table.required("profile", located(word(&PROFILES)));
        let endpoints = read_endpoints(&mut table);
        let health = table.optional("health", located(Health::read));
        let allow_addresses = table.optional("allow_addresses", |node| node.list(network));
        let org = table.optional("org", visible);
        let org_names = table.optional("org_names", |node| Table::of(node)?.pairs(visible));
        let credential = table.optional("credential", name);
        let ca_file = table.optional("ca_file", path);
        let trailing_slash = table.optional("trailing_slash", word(&SLASHES));
        let slashless = table.optional("slashless", |node| node.list(line));
        let repeat_after_401 = table.optional("repeat_after_401", boolean);
        let link_members = table.optional("link_members", |node| node.list(line));
        let sign_base_path = table.optional("sign_base_path", boolean);
        let cookies = table.optional("cookies", word(&COOKIES));
        let pass_headers = table.optional("pass_headers", |node| node.list(pass_header));
        let range_paths = table.optional("range_paths", |node| node.list(line));
        let forwarded_for = table.optional("forwarded_for", word(&FORWARDED_FOR));
        let pool_idle = table.optional("pool_idle", duration(Duration::ZERO..=Duration::from_hours(24)));
        let insecure_plaintext = table.optional("insecure_plaintext", located(boolean));
        let scheme = table.required("scheme", located(Scheme::read));
        table.finish();
        let (endpoint, others) = endpoints?;
        Ok(Self {
            name: called,
            profile: profile?,
            endpoint,
            others,
            health: health?,
            allow_addresses: allow_addresses?.unwrap_or_default(),
            org: org?,
            org_names: org_names?.unwrap_or_default(),
            credential: credential?,
            ca_file: ca_file?,
            trailing_slash: trailing_slash?,
            slashless: slashless?,
            repeat_after_401: repeat_after_401?,
            link_members: link_members?,
            sign_base_path: sign_base_path?.unwrap_or(true),
            cookies: cookies?,
            pass_headers: pass_headers?.unwrap_or_default(),
            range_paths: range_paths?.unwrap_or_default(),
            forwarded_for: forwarded_for?.unwrap_or(ForwardedFor::None),
            pool_idle: pool_idle?,
            insecure_plaintext: insecure_plaintext?.unwrap_or(Spanned::synthetic(false)),
            scheme: scheme?,
        })
    }
}

impl Health {
    fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let path = table.optional("path", line);
        let interval = table.optional("interval", interval);
        table.finish();
        Ok(Self { path: path?, interval: interval? })
    }
}

fn interval(node: &Node<'_>) -> Read<Duration> {
    let read = duration(Duration::ZERO..=Duration::from_hours(1))(node)?;
    if read.is_zero() || read >= Duration::from_secs(1) {
        return Ok(read);
    }
    Err(node.refuse(format!("{} must be \"0s\", for never, or at least 1s", node.subject())))
}

fn network(node: &Node<'_>) -> Read<Network> {
    let text = line(node)?;
    text.value.parse().map_err(|wanted: NoNetwork| {
        let problem = Problem::error(node.span(), format!("{} is no range of addresses", node.subject()));
        node.report(problem.help(format!("write {wanted}")))
    })
}

/// Reads the name of a header to pass on, or a pattern of such names.
fn pass_header(node: &Node<'_>) -> Read<Spanned<String>> {
    let name = visible(node)?;
    match check_added(&name.value) {
        Ok(()) => Ok(name),
        Err(why) => {
            let problem = Problem::error(node.span(), format!("`{}` {why}", name.value));
            Err(node.report(problem.help("name headers of your own, as in \"x-acme-*\"")))
        }
    }
}

/// Reads `endpoint` or `endpoints`: the first URL, and the others.
fn read_endpoints(table: &mut Table<'_>) -> Read<(Spanned<String>, Vec<Spanned<String>>)> {
    let several = table.optional("endpoints", |node| {
        let mut endpoints = node.list(one_endpoint)?.into_iter();
        match endpoints.next() {
            Some(first) => Ok((first, endpoints.collect())),
            None => Err(node.refuse(format!("{} must not be empty", node.subject()))),
        }
    });
    let Some(several) = several.transpose() else {
        return Ok((table.required("endpoint", one_endpoint)?, Vec::new()));
    };
    match (table.optional("endpoint", |node| one_endpoint(node).map(|_| node.span())), several) {
        (Ok(None), several) => several,
        (Ok(Some(span)), _) => {
            Err(table.refuse_key(span, "`endpoint` and `endpoints` are both given", "keep one of them"))
        }
        (Err(reported), _) => Err(reported),
    }
}

pub(super) fn one_endpoint(node: &Node<'_>) -> Read<Spanned<String>> {
    let text = line(node)?;
    let authority = text.value.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next());
    if authority.is_some_and(|authority| authority.contains('@')) {
        node.hide();
        let title = format!("{} must not hold a name or password", node.subject());
        let help = "put what the upstream wants to see in a credential, and name that";
        return Err(node.report(Problem::error(node.span(), title).help(help)));
    }
    Ok(text)
}

const PROFILES: [(&str, Profile); 4] = [
    ("jumpserver", Profile::JumpServer),
    ("jumpcloud", Profile::JumpCloud),
    ("foresight", Profile::Foresight),
    ("plain", Profile::Plain),
];
const SLASHES: [(&str, TrailingSlash); 2] = [("add", TrailingSlash::Add), ("keep", TrailingSlash::Keep)];
const COOKIES: [(&str, Cookies); 2] = [("strip", Cookies::Strip), ("pass", Cookies::Pass)];
const FORWARDED_FOR: [(&str, ForwardedFor); 2] =
    [("none", ForwardedFor::None), ("consumer", ForwardedFor::Consumer)];
