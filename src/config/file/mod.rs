//! The content of the configuration file, section by section: each a table of its keys with their defaults.
//!
//! These types mirror the text. Values that a later check may complain about carry
//! their place ([`Spanned`](super::Spanned)).

mod access;
mod audit;
mod custody;
mod document;
mod limits;
mod listener;
mod reference;
mod route;
mod scheme;
mod upstream;

pub use access::{Condition, Consumer, Grant, Role, Rule, is_known_method};
pub use audit::{Audit, Sink, SinkKind};
pub use custody::{Credential, Custody, MasterKey};
pub(super) use document::read;
pub use document::{File, keys};
pub use limits::Limits;
pub use listener::{Admin, Listener, Tls};
pub use reference::Reference;
pub use route::Route;
pub use scheme::{
    AccessKey, Carrier, ClientCredentials, Failed, Header, Login, Preset, Refresh, Rsa, RsaForm, Scheme,
};
pub(super) use upstream::urls;
pub use upstream::{HEALTH_INTERVAL, Health, Profile, Upstream};
