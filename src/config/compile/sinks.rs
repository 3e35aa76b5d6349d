//! Compiles `[audit.sinks.…]` into [`SinkConfig`]s.

use std::sync::Arc;

use super::inputs::Scope;
use super::secrets::{UNREADABLE, read};
use crate::config::file::{Reference, Sink, SinkKind as Kind};
use crate::config::{Span, Spanned};
use crate::origin::Origin;
use crate::secret::Secret;
use crate::sinks::{PayloadFormat, Remote, SinkConfig, SinkKind};
use crate::tls;

/// Compiles the sinks of the file; empty if only the store is read again, since sinks never change at run time.
pub(super) fn compile(scope: &mut Scope<'_>) -> Vec<SinkConfig> {
    if scope.inputs.base.retained().is_some() {
        return Vec::new();
    }
    let sinks = scope.file.audit.sinks.iter();
    let compile =
        |(_, sink): (_, &Sink)| Some(SinkConfig { name: sink.name.value, kind: kind(scope, sink)? });
    sinks.filter_map(compile).collect()
}

fn kind(scope: &mut Scope<'_>, sink: &Sink) -> Option<SinkKind> {
    let format = match (sink.kind.value, &sink.file) {
        (Kind::Stdout, _) => return Some(SinkKind::Stdout),
        (Kind::Witness, Some(file)) => return Some(SinkKind::Witness(file.value.clone())),
        (Kind::Syslog, _) => return Some(SinkKind::Syslog(remote(scope, sink)?)),
        (Kind::Witness, None) => PayloadFormat::Head,
        (Kind::Http, _) => PayloadFormat::Json,
        (Kind::Otlp, _) => PayloadFormat::Otlp,
    };
    Some(SinkKind::Http(remote(scope, sink)?, format))
}

/// The forms of URLs of one kind of sink.
struct UrlForm {
    plain: &'static str,
    tls: &'static str,
    example: &'static str,
}

const SYSLOG: UrlForm = UrlForm { plain: "tcp://", tls: "tls://", example: "tls://log.example.com:6514" };
const HTTP: UrlForm =
    UrlForm { plain: "http://", tls: "https://", example: "https://log.example.com/events" };

fn remote(scope: &mut Scope<'_>, sink: &Sink) -> Option<Remote> {
    let url = sink.url.as_ref()?;
    let form = if sink.kind.value == Kind::Syslog { SYSLOG } else { HTTP };
    let Some((origin, path)) = split(&url.value, &form) else {
        let title = format!("the url of the sink `{}` is none that it can have", sink.name.value);
        return scope.problems.refuse(url.span, title, format!("write it as in \"{}\"", form.example));
    };
    if !origin.tls && !origin.is_loopback() && !sink.insecure_plaintext {
        let title = "the events and the token would cross the network in plaintext";
        let help = format!(
            "use {}, or set `insecure_plaintext = true` on this sink if the network itself is trusted",
            form.tls
        );
        return scope.problems.refuse(url.span, title, help);
    }
    let ca_file = sink.ca_file.as_ref();
    let tls = tls::client_config(ca_file.map(|path| path.value.as_path())).or_else(|error| {
        let span = ca_file.map_or(Span::NOWHERE, |path| path.span);
        let title = format!("the authority of this sink cannot be used: {error}");
        scope.problems.refuse(span, title, UNREADABLE).ok_or(())
    });
    let token = match &sink.token {
        Some(reference) => Some(Arc::new(token(scope, reference)?)),
        None => None,
    };
    Some(Remote { origin, path, tls: tls.ok()?, token })
}

/// Splits a URL into origin and path; a syslog URL must have a port, and nothing after it.
fn split(url: &str, form: &UrlForm) -> Option<(Origin, String)> {
    let plain = url.strip_prefix(form.plain).map(|rest| format!("http://{rest}"));
    let http = plain.or_else(|| url.strip_prefix(form.tls).map(|rest| format!("https://{rest}")))?;
    let (origin, path) = Origin::split(&http)?;
    if form.plain == SYSLOG.plain {
        let has_port = url.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        return (has_port && path.is_empty()).then_some((origin, String::new()));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path.parse::<http::uri::PathAndQuery>().ok()?;
    Some((origin, path))
}

fn token(scope: &mut Scope<'_>, reference: &Spanned<Reference>) -> Option<Secret> {
    let secret = read(scope, reference)?;
    let token = secret.expose().trim_ascii();
    if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
        let title = "the token of a sink must be visible ASCII, in one word";
        return scope.problems.refuse(reference.span, title, "write the token alone into it");
    }
    Some(Secret::new(token.to_vec()))
}
