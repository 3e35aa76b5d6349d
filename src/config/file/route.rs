//! `[[routes]]`.

use crate::config::Spanned;
use crate::config::decode::text::{line, name, visible};
use crate::config::decode::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::config::span::Span;

/// Which upstream a call is for.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where it stands.
    pub span: Span,
    /// The host that the call must name; absent for any.
    pub host: Option<Spanned<String>>,
    /// What the path of the call must start with; it starts with `/`.
    pub prefix: Spanned<String>,
    /// The upstream.
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
