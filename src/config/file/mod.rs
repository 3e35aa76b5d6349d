//! The content of the configuration file, section by section, each with its defaults.
//!
//! These types mirror the text. Values that a later check may complain about carry their place ([`Spanned`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use toml::de::DeTable;

use super::decode::scalar::integer;
use super::decode::text::path;
use super::decode::{Context, Table};
use super::{Declared, Spanned};

mod access;
mod custody;
mod journal;
mod limits;
mod listener;
mod route;
mod scheme;
mod sink;
mod upstream;

pub use access::{Condition, Consumer, Grant, Role, Rule, is_known_method};
pub use custody::{Credential, Custody, MasterKey, Material, Reference};
pub use journal::{Audit, Durability};
pub use limits::Limits;
pub use listener::{Admin, Listener, Tls};
pub use route::Route;
pub use scheme::{
    AccessKey, Auth, Body, Carrier, ClientCredentials, Failed, Login, Preset, Refresh, Rsa, RsaForm, Scheme,
};
pub use sink::{Sink, SinkKind};
pub use upstream::{Cookies, ForwardedFor, Health, Profile, TrailingSlash, Upstream};

/// The content of the whole file.
#[derive(Clone, Debug)]
pub struct File {
    /// The folder of the store, the trail and the keys.
    pub state_dir: Spanned<PathBuf>,
    /// The number of workers; 0 for one per core.
    pub workers: usize,
    /// The listeners for consumers.
    pub listeners: Vec<Listener>,
    /// The listener for operators.
    pub admin: Admin,
    /// The settings of the audit trail.
    pub audit: Audit,
    /// The settings by which stored credentials are sealed.
    pub custody: Custody,
    /// The upper bounds of requests, connections and times.
    pub limits: Limits,
    /// The upstreams to which calls are forwarded.
    pub upstreams: Declared<Upstream>,
    /// The credentials that the file refers to.
    pub credentials: Declared<Credential>,
    /// The routes from hosts and paths to upstreams, in the order of the file.
    pub routes: Vec<Route>,
    /// The consumers that the file declares.
    pub consumers: Declared<Consumer>,
    /// The roles: named sets of rules.
    pub roles: Declared<Role>,
    /// The grants, in the order of the file.
    pub grants: Vec<Grant>,
}

impl File {
    pub(super) fn read<'a>(context: &'a Context<'a>, document: &'a DeTable<'a>) -> Self {
        let mut table = Table::root(context, document);
        let default_state = Spanned::synthetic(context.base().join("state"));
        let state_dir = table.or_default("state_dir", default_state, path);
        let file = Self {
            workers: table.or_default("workers", 0, integer(0..=1024)),
            listeners: table.each("listeners", Listener::read).unwrap_or_else(|| vec![Listener::default()]),
            admin: table.or_default("admin", Admin::default(), Admin::read),
            audit: table.or_default("audit", Audit::new(&state_dir.value), |node| {
                Audit::read(node, &state_dir.value)
            }),
            custody: table.or_default("custody", Custody::new(&state_dir.value), |node| {
                Custody::read(node, &state_dir.value)
            }),
            limits: table.or_default("limits", Limits::default(), Limits::read),
            upstreams: table.keyed_items("upstreams", Upstream::read),
            credentials: table.keyed_items("credentials", Credential::read),
            routes: table.each("routes", Route::read).unwrap_or_default(),
            consumers: table.keyed_items("consumers", Consumer::read),
            roles: table.keyed_items("roles", Role::read),
            grants: table.each("grants", Grant::read).unwrap_or_default(),
            state_dir,
        };
        table.finish();
        file
    }
}

/// An address of this host only.
const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
