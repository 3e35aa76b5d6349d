//! `[[routes]]`: which upstream a call is for.

use crate::config::Spanned;
use crate::config::decode::{Shape, line, name, optional, place, required, section, visible};
use crate::config::span::Span;
use crate::name::Name;

section! {
    /// The route of calls to an upstream.
    pub struct Route {
        /// The place of the route in the text.
        span: Span = place(),
        /// The host name that calls must name; by default any.
        host: Option<Spanned<String>> = optional(visible()),
        /// The beginning of the path, in whole segments; removed before the upstream sees the path.
        prefix: Spanned<String> = required(
            line().of_shape(Shape::Text(r"^/[^\u0000-\u001f\u007f-\u009f]*$")).then(|node, prefix| {
                if prefix.value.starts_with('/') {
                    return Ok(prefix);
                }
                Err(node.report(node.problem("must start with `/`").help("write \"/\" for every path")))
            })
        ),
        /// The name of the upstream.
        upstream: Spanned<Name> = required(name()),
    }
}
