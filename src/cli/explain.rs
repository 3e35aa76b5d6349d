//! `claviger explain`: shows what would happen to a call. It never shows a secret.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::request_file::{Received, Unknown, is_credentialed};
use super::{Output, load};
use crate::clock::{Clock as _, SystemClock, http_date};
use crate::code::{Code, Fault};
use crate::framing::HeadLimits;
use crate::gateway::Snapshot;
use crate::gateway::explain::{self, Explanation, Verdict};
use crate::origin::Origin;
use crate::policy::BodyUnreadable;
use crate::scheme::Preview;

/// The call in question.
#[derive(Args)]
pub(super) struct Question {
    /// The consumer that makes the call
    #[arg(long, value_name = "NAME", required_unless_present = "received")]
    consumer: Option<String>,
    /// A file with a request as it was received, instead of all else: who sent it is found out, and
    /// where its signature differs from what was to be signed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["consumer", "headers", "method", "url"])]
    received: Option<PathBuf>,
    /// A header that the call carries, as `Name: value`; may be repeated
    #[arg(long = "header", short = 'H', value_name = "LINE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with the body that the call carries, for rules that look at it: JSON unless
    /// a `Content-Type` header says otherwise
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The method, as it is sent: `get` is not `GET`
    #[arg(value_parser = method, required_unless_present = "received")]
    method: Option<Method>,
    /// The gateway's URL as a script would write it, or the path and query alone
    #[arg(value_parser = place, required_unless_present = "received")]
    url: Option<Place>,
}

/// The destination of a call, from a URL.
#[derive(Clone)]
struct Place {
    host: String,
    target: String,
}

/// Explains a call; returns whether it would be allowed.
pub(super) fn run(path: &Path, question: &Question, output: Output) -> anyhow::Result<bool> {
    let (_, compiled, _) = load(path)?;
    let snapshot = &compiled.snapshot;
    let body =
        question.body.as_deref().map(|path| std::fs::read(path).with_context(|| path.display().to_string()));
    let body = body.transpose()?;
    let limits = &snapshot.limits.head;
    let received = match &question.received {
        Some(path) => Received::read(path, limits)?,
        None => explain_typed(question, body.as_deref(), limits)?,
    };
    let outcome = match received {
        Ok(received) => explained(snapshot, question.consumer.as_deref(), &received, body)?,
        Err(Fault { code, reason }) => {
            Ok((Explanation::default(), Verdict::Denied { code, reason: Some(reason.into()) }))
        }
    };
    match &outcome {
        Ok((explanation, verdict)) => output.print(&json(explanation, verdict), &text(explanation, verdict)),
        Err(unknown) => print_unproven(unknown, output),
    }
    Ok(matches!(outcome, Ok((_, Verdict::Allowed { .. }))))
}

/// Explains a call that was typed on the command line.
fn explain_typed(
    question: &Question,
    body: Option<&[u8]>,
    limits: &HeadLimits,
) -> anyhow::Result<Result<Received, Fault>> {
    let Question { method: Some(method), url: Some(url), .. } = question else {
        bail!("say who calls, the method and the URL");
    };
    let mut headers: HeaderMap = question.headers.iter().cloned().collect();
    if let Some(body) = body {
        if !headers.contains_key(TRANSFER_ENCODING) {
            headers.entry(CONTENT_LENGTH).or_insert(body.len().into());
        }
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    let body = body.unwrap_or_default().to_vec();
    Ok(Received::from_args((method.clone(), &url.target, &url.host), headers, body, limits))
}

/// Explains a call; the inner error is the reason why its credential does not authenticate a consumer.
fn explained(
    snapshot: &Snapshot,
    consumer: Option<&str>,
    received: &Received,
    body: Option<Vec<u8>>,
) -> anyhow::Result<Result<(Explanation, Verdict), Unknown>> {
    let now = SystemClock.now();
    let when = (now, &http_date(now));
    let body = body.or_else(|| received.body().map(<[u8]>::to_vec));
    let members = explain::members(snapshot, &received.headers, body.as_deref());
    let is_unknown = body.is_none() && members.why_unread() == Some(BodyUnreadable::Long);
    let call = received.call(members);
    let (explanation, verdict) = match consumer.filter(|_| !is_credentialed(&call.headers)) {
        Some(consumer) => explain::attempt(snapshot, consumer, &call, when)
            .with_context(|| format!("there is no consumer `{consumer}`"))?,
        None => match explain::attempt_proven(snapshot, &call, when) {
            Ok((Some(proven), _)) if consumer.is_some_and(|named| named != proven.as_str()) => {
                bail!("the credential in the headers is of `{proven}`: leave it out, or name that consumer")
            }
            Ok((_, tried)) => tried,
            Err(why) => return Ok(Err(received.unknown(snapshot, why))),
        },
    };
    if explanation.is_by_body && is_unknown {
        bail!("a rule looks at the body of this call: give it with --body FILE");
    }
    Ok(Ok((explanation, with_method_hint(&call.method, verdict))))
}

/// Adds a hint to the verdict if only the case of the method may be wrong.
fn with_method_hint(method: &Method, verdict: Verdict) -> Verdict {
    let upper = method.as_str().to_ascii_uppercase();
    match verdict {
        Verdict::Denied { code: Code::Denied, reason: None } if upper != method.as_str() => {
            let reason = format!("{} The method is `{method}`: `{upper}` is another.", Code::Denied.detail());
            Verdict::Denied { code: Code::Denied, reason: Some(reason) }
        }
        other @ (Verdict::Allowed { .. } | Verdict::Denied { .. }) => other,
    }
}

/// Prints why a received request does not authenticate a consumer.
fn print_unproven(Unknown { code, reason, expected }: &Unknown, output: Output) {
    let json = serde_json::json!({
        "decision": "denied", "code": code.as_str(), "status": code.status().as_u16(), "reason": reason,
        "expected": expected,
    });
    let mut text = format!("decision    denied\ncode        {}\nbecause     {reason}\n", code.as_str());
    if let Some(expected) = expected {
        text.push_str("string to sign, by what was received\n");
        for line in expected.lines() {
            // Writing into a string cannot fail.
            writeln!(text, "    {line}").unwrap_or_default();
        }
    }
    output.print(&json, &text);
}

fn method(typed: &str) -> Result<Method, String> {
    Method::from_bytes(typed.as_bytes()).map_err(|_| "no HTTP method".into())
}

fn place(typed: &str) -> Result<Place, String> {
    let (host, target) = match Origin::split(typed) {
        // No client sends the fragment of a URL.
        Some((origin, rest)) => match rest.split('#').next().unwrap_or_default() {
            "" => (origin.authority(), "/"),
            target => (origin.authority(), target),
        },
        None if typed.starts_with('/') => ("localhost".to_owned(), typed),
        None => return Err("neither an http(s) URL nor a path".into()),
    };
    Ok(Place { host, target: target.to_owned() })
}

fn header(typed: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = typed.split_once(':').ok_or("no header line: `Name: value`")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|error| error.to_string())?;
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|error| error.to_string())?))
}

fn text(explanation: &Explanation, verdict: &Verdict) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Writing into a string cannot fail.
            writeln!(out, "{name:<12}{value}").unwrap_or_default();
        }
    };
    match verdict {
        Verdict::Allowed { .. } => line("decision", Some("allowed")),
        Verdict::Denied { code, reason } => {
            line("decision", Some("denied"));
            line("code", Some(code.as_str()));
            line("status", Some(code.status().as_str()));
            line("because", reason.as_deref().or(Some(code.detail())));
        }
    }
    line("rule", explanation.rule.as_deref());
    line("shadow", explanation.shadow.as_deref());
    line("upstream", explanation.upstream.as_deref());
    line("org", explanation.org.as_deref());
    line("target", explanation.target.as_deref());
    line("dropped", Some(explanation.dropped.join(", ")).as_deref().filter(|names| !names.is_empty()));
    if let Verdict::Allowed { credential, key_id, preview } = verdict {
        line("credential", Some(credential));
        line("key id", key_id.as_deref());
        match preview {
            Preview::Line(put_on) => line("put on", Some(put_on)),
            Preview::Signature(string) => {
                out.push_str("string to sign (date is now's)\n");
                for signed in string.lines() {
                    writeln!(out, "    {signed}").unwrap_or_default();
                }
            }
        }
    }
    out
}

fn json(explanation: &Explanation, verdict: &Verdict) -> serde_json::Value {
    let mut value = serde_json::json!({
        "rule": explanation.rule, "shadow": explanation.shadow, "upstream": explanation.upstream, "org": explanation.org, "target": explanation.target, "dropped": explanation.dropped,
    });
    let more = match verdict {
        Verdict::Allowed { credential, key_id, preview: Preview::Signature(string) } => serde_json::json!({
            "decision": "allowed", "credential": credential, "key_id": key_id, "signing_string": string,
        }),
        Verdict::Allowed { credential, key_id: _, preview: Preview::Line(line) } => serde_json::json!({
            "decision": "allowed", "credential": credential, "header_line": line,
        }),
        Verdict::Denied { code, reason } => serde_json::json!({
            "decision": "denied", "code": code.as_str(), "status": code.status().as_u16(), "reason": reason,
        }),
    };
    if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
        value.extend(more.clone());
    }
    value
}
