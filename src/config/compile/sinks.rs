//! Compiles `[audit.sinks.…]` into [`SinkConfig`]s.

use std::sync::Arc;

use super::CompileInputs;
use super::secrets::{UNREADABLE, read};
use crate::config::file::{File, Sink, SinkKind};
use crate::config::{Problem, Problems, Span};
use crate::fs::trust::TrustedOwner;
use crate::origin::Origin;
use crate::secret::Secret;
use crate::sinks::{self, PayloadFormat, Remote, SinkConfig};
use crate::tls;

/// Compiles the sinks of the file; empty if only the store is read again, since sinks never change at run time.
pub(super) fn compile(file: &File, problems: &mut Problems, around: &CompileInputs<'_>) -> Vec<SinkConfig> {
    if around.kept().is_some() {
        return Vec::new();
    }
    super::warn_of_old_certificates(file, problems, around.now);
    let mut plans = Vec::new();
    for (_, sink) in file.audit.sinks.iter() {
        let kind = kind(file, sink, problems, around);
        plans.extend(kind.map(|kind| SinkConfig { name: sink.name.value, kind }));
    }
    plans
}

fn kind(
    file: &File,
    sink: &Sink,
    problems: &mut Problems,
    around: &CompileInputs<'_>,
) -> Option<sinks::SinkKind> {
    let form = match (sink.kind.value, &sink.file) {
        (SinkKind::Stdout, _) => return Some(sinks::SinkKind::Stdout),
        (SinkKind::Witness, Some(file)) => return Some(sinks::SinkKind::Witness(file.value.clone())),
        (SinkKind::Syslog, _) => return Some(sinks::SinkKind::Syslog(remote(file, sink, problems, around)?)),
        (SinkKind::Witness, None) => PayloadFormat::Head,
        (SinkKind::Http, _) => PayloadFormat::Json,
        (SinkKind::Otlp, _) => PayloadFormat::Otlp,
    };
    Some(sinks::SinkKind::Http(remote(file, sink, problems, around)?, form))
}

/// The forms of URLs of one kind of sink.
struct Written {
    clear: &'static str,
    tls: &'static str,
    example: &'static str,
}

const SYSLOG: Written = Written { clear: "tcp://", tls: "tls://", example: "tls://log.example.com:6514" };
const HTTP: Written =
    Written { clear: "http://", tls: "https://", example: "https://log.example.com/events" };

fn remote(file: &File, sink: &Sink, problems: &mut Problems, around: &CompileInputs<'_>) -> Option<Remote> {
    let url = sink.url.as_ref()?;
    let written = if sink.kind.value == SinkKind::Syslog { SYSLOG } else { HTTP };
    let Some((origin, path)) = split(&url.value, &written) else {
        let title = format!("the url of the sink `{}` is none that it can have", sink.name.value);
        problems
            .push(Problem::error(url.span, title).help(format!("write it as in \"{}\"", written.example)));
        return None;
    };
    if !origin.tls && !origin.is_loopback() && !sink.insecure_plaintext {
        let title = "who called what, and the token, would cross the network in clear";
        let help = format!(
            "use {}, or set `insecure_plaintext = true` on this sink if the network itself is trusted",
            written.tls
        );
        problems.push(Problem::error(url.span, title).help(help));
        return None;
    }
    let ca_file = sink.ca_file.as_ref();
    let tls = tls::client_config(ca_file.map(|path| path.value.as_path()));
    let tls = tls.map_err(|error| {
        let span = ca_file.map_or(Span::NOWHERE, |path| path.span);
        problems.push(
            Problem::error(span, format!("the authority of this sink cannot be used: {error}"))
                .help(UNREADABLE),
        );
    });
    let token = match &sink.token {
        Some(reference) => Some(Arc::new(token(file, reference, problems, around)?)),
        None => None,
    };
    Some(Remote { origin, path, tls: tls.ok()?, token })
}

/// Splits a URL into origin and path; a syslog URL must have a port, and nothing after it.
fn split(url: &str, written: &Written) -> Option<(Origin, String)> {
    let plain = url.strip_prefix(written.clear).map(|rest| format!("http://{rest}"));
    let http = plain.or_else(|| url.strip_prefix(written.tls).map(|rest| format!("https://{rest}")))?;
    let (origin, path) = Origin::split(&http)?;
    if written.clear == SYSLOG.clear {
        let has_port = url.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        return (has_port && path.is_empty()).then_some((origin, String::new()));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path.parse::<http::uri::PathAndQuery>().ok()?;
    Some((origin, path))
}

fn token(
    file: &File,
    reference: &crate::config::Spanned<crate::config::file::Reference>,
    problems: &mut Problems,
    around: &CompileInputs<'_>,
) -> Option<Secret> {
    let read = read(reference, problems, (around, TrustedOwner::of(&file.state_dir.value)))?;
    let trimmed = read.expose().trim_ascii().to_vec();
    let visible = trimmed.iter().all(u8::is_ascii_graphic);
    if trimmed.is_empty() || !visible {
        let problem =
            Problem::error(reference.span, "the token of a sink must be visible ASCII, in one word");
        problems.push(problem.help("write the token alone into it"));
        return None;
    }
    Some(Secret::new(trimmed))
}
