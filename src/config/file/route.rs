//! `[[routes]]`: which upstream a call is for.

use crate::config::Spanned;
use crate::config::decode::text::{line, name, visible};
use crate::config::decode::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::config::span::Span;

/// The route of calls to an upstream.
#[derive(Clone, Debug)]
pub struct Route {
    /// The place of the route in the text.
    pub span: Span,
    /// The host that the call must name; absent for any host.
    pub host: Option<Spanned<String>>,
    /// The prefix of the call's path; it starts with `/`.
    pub prefix: Spanned<String>,
    /// The name of the upstream.
    pub upstream: Spanned<String>,
}

impl Route {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let host = table.optional("host", visible);
        let prefix = table.required("prefix", read_prefix);
        let upstream = table.required("upstream", name);
        let span = table.span();
        table.finish();
        Ok(Self { span, host: host?, prefix: prefix?, upstream: upstream? })
    }
}

fn read_prefix(node: &Node<'_>) -> Read<Spanned<String>> {
    let prefix = line(node)?;
    if prefix.value.starts_with('/') {
        return Ok(prefix);
    }
    let title = format!("{} must start with `/`", node.subject());
    Err(node.report(Problem::error(node.span(), title).help("write \"/\" for every path")))
}
