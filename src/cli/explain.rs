//! `claviger explain`: what would happen to a call. Never shows a secret.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use http::{HeaderName, HeaderValue, Method};

use super::received::{Received, Unknown};
use super::{Output, load, say, tell_problems};
use crate::clock::{Clock as _, SystemClock, http_date};
use crate::code::Code;
use crate::gateway::trial::{self, Call, Trial, Verdict};
use crate::origin::Origin;
use crate::policy::Members;
use crate::scheme::Shown;

/// The call in question.
#[derive(Args)]
pub(super) struct Question {
    /// Who calls
    #[arg(long, value_name = "NAME", required_unless_present = "received")]
    consumer: Option<String>,
    /// A file with a request's head as it was received, instead of all else: who sent it is found out, and
    /// where its signature differs from what was to be signed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["consumer", "headers", "method", "url"])]
    received: Option<PathBuf>,
    /// A header that the call carries, as `Name: value`; may be repeated
    #[arg(long = "header", short = 'H', value_name = "LINE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A file with the JSON body that the call carries, for rules that look at it
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// The method
    #[arg(value_parser = method, required_unless_present = "received")]
    method: Option<Method>,
    /// The gateway's URL as a script would write it, or the path and query alone
    #[arg(value_parser = place, required_unless_present = "received")]
    url: Option<Place>,
}

/// Where a call goes, as a URL tells it.
#[derive(Clone)]
struct Place {
    host: String,
    target: String,
}

/// Explains; whether the call would be allowed.
pub(super) fn run(path: &Path, question: &Question, output: Output) -> anyhow::Result<bool> {
    let (_, compiled, _) = match load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            tell_problems(&problems);
            return Ok(false);
        }
    };
    let (consumer, call) = match &question.received {
        Some(path) => {
            let received = Received::read(path)?;
            match received.sender(&compiled.snapshot, SystemClock.now()) {
                Ok(consumer) => {
                    let body = body(question.body.as_deref())?;
                    let host = received.host().to_owned();
                    let Received { method, target, headers } = received;
                    (consumer, Call { method, host, target, headers, body })
                }
                Err(unknown) => {
                    unproven(&unknown, output);
                    return Ok(false);
                }
            }
        }
        None => asked(question)?,
    };
    let now = SystemClock.now();
    let tried = trial::attempt(&compiled.snapshot, &consumer, &call, (now, &http_date(now)));
    let (trial, verdict) = tried.with_context(|| format!("there is no consumer `{consumer}`"))?;
    let allowed = matches!(verdict, Verdict::Allowed { .. });
    match output {
        Output::Json => say(&format!("{}\n", json(&trial, &verdict))),
        Output::Text => say(&text(&trial, &verdict)),
    }
    Ok(allowed)
}

fn asked(question: &Question) -> anyhow::Result<(String, Call)> {
    let Question { consumer: Some(consumer), method: Some(method), url: Some(url), .. } = question else {
        bail!("say who calls, the method and the URL");
    };
    let (Place { host, target }, method) = (url.clone(), method.clone());
    let headers = question.headers.iter().cloned().collect();
    let body = body(question.body.as_deref())?;
    Ok((consumer.clone(), Call { method, host, target, headers, body }))
}

fn body(path: Option<&Path>) -> anyhow::Result<Members> {
    let Some(path) = path else { return Ok(Members::none()) };
    let body = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(if body.is_empty() { Members::none() } else { Members::read(&body) })
}

/// Says why nobody is known by what was received.
fn unproven(Unknown { reason, expected }: &Unknown, output: Output) {
    let code = Code::Unauthenticated;
    if output == Output::Json {
        let json = serde_json::json!({
            "decision": "denied", "code": code.as_str(), "status": code.status().as_u16(), "reason": reason,
            "expected": expected,
        });
        return say(&format!("{json}\n"));
    }
    let mut text = format!("decision    denied\ncode        {}\nbecause     {reason}\n", code.as_str());
    if let Some(expected) = expected {
        text.push_str("string to sign, by what was received\n");
        for line in expected.lines() {
            // Writing into a string cannot fail.
            writeln!(text, "    {line}").unwrap_or_default();
        }
    }
    say(&text);
}

fn method(typed: &str) -> Result<Method, String> {
    Method::from_bytes(typed.to_ascii_uppercase().as_bytes()).map_err(|_| "no HTTP method".into())
}

fn place(typed: &str) -> Result<Place, String> {
    let (host, target) = match Origin::split(typed) {
        Some((origin, "")) => (origin.authority(), "/"),
        Some((origin, rest)) => (origin.authority(), rest),
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

fn text(trial: &Trial, verdict: &Verdict) -> String {
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
            line("because", reason.or(Some(code.detail())));
        }
    }
    line("rule", trial.rule.as_deref());
    line("shadow", trial.shadow.as_deref());
    line("upstream", trial.upstream.as_deref());
    line("org", trial.org.as_deref());
    line("target", trial.target.as_deref());
    if let Verdict::Allowed { credential, key_id, shown } = verdict {
        line("credential", Some(credential));
        line("key id", key_id.as_deref());
        match shown {
            Shown::Line(put_on) => line("put on", Some(put_on)),
            Shown::Signature(string) => {
                out.push_str("string to sign (date is now's)\n");
                for signed in string.lines() {
                    writeln!(out, "    {signed}").unwrap_or_default();
                }
            }
        }
    }
    out
}

fn json(trial: &Trial, verdict: &Verdict) -> serde_json::Value {
    let mut value = serde_json::json!({
        "rule": trial.rule, "shadow": trial.shadow, "upstream": trial.upstream, "org": trial.org, "target": trial.target,
    });
    let more = match verdict {
        Verdict::Allowed { credential, key_id, shown: Shown::Signature(string) } => serde_json::json!({
            "decision": "allowed", "credential": credential, "key_id": key_id, "signing_string": string,
        }),
        Verdict::Allowed { credential, key_id: _, shown: Shown::Line(line) } => serde_json::json!({
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
