//! The whole file, section by section.

use std::path::PathBuf;

use toml::de::DeTable;

use super::access::{Consumer, Grant, Role};
use super::audit::Audit;
use super::custody::{Credential, Custody, credential};
use super::limits::Limits;
use super::listener::{Admin, Listener, usual};
use super::route::Route;
use super::upstream::{Upstream, reader};
use crate::config::decode::{
    Absent, Context, Row, Section, Table, each, integer, named, named_by, or_default, or_from, path, section,
    section_or_default,
};
use crate::config::{Declared, Spanned};

section! {
    /// The content of the whole file.
    pub struct File {
        /// The folder of the audit trail, the keys, the store and large bodies in transit; it is made
        /// for its owner alone.
        state_dir: Spanned<PathBuf> = or_from(
            Absent::Value("\"state\"".into()), |context| Spanned::synthetic(context.state_dir.clone()), path()
        ),
        /// The number of threads that serve; 0: one for each core that the process may use.
        workers: usize = or_default(0, integer(0..=1024)),
        /// The addresses where consumers call; without any, `127.0.0.1:7070`.
        listeners: Vec<Listener> = each(|| vec![usual()]),
        /// The address where operators look.
        admin: Admin = section_or_default(),
        /// The audit trail, which cannot be turned off.
        audit: Audit = section_or_default(),
        /// How the store is sealed.
        custody: Custody = section_or_default(),
        /// The upper bounds of requests, connections and times.
        limits: Limits = section_or_default(),
        /// The upstreams that calls are forwarded to.
        upstreams: Declared<Upstream> = named_by(reader),
        /// The credentials that are kept outside the store: where they are, never what they are.
        credentials: Declared<Credential> = named_by(credential),
        /// The routes, which say for which upstream a call is; the longest prefix wins.
        routes: Vec<Route> = each(Vec::new),
        /// The consumers, beside those of the store.
        consumers: Declared<Consumer> = named(),
        /// The roles, which are named sets of rules.
        roles: Declared<Role> = named(),
        /// The grants, which give consumers roles at upstreams.
        grants: Vec<Grant> = each(Vec::new),
    }
}

/// Reads the whole document. What cannot be read has its default, or is left out; a problem says so.
pub(in crate::config) fn read<'a>(context: &'a Context<'a>, document: &'a DeTable<'a>) -> Option<File> {
    let mut table = Table::root(context, document);
    let file = File::read(&mut table).ok();
    table.finish();
    file
}

/// Describes every key of the file.
#[must_use]
pub fn keys() -> Vec<Row> {
    File::rows()
}
