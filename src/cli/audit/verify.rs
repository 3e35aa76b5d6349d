//! `audit verify`, `audit verify-proof`: the checks of an auditor.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::context::{format_line, progress, settings};
use crate::audit::{
    Checkpoint, CheckpointKey, Finding, LastHead, Proof, Report, TrustAnchors, check_consistency,
    verify_against,
};
use crate::cli::{Output, eprint, print};
use crate::printable::printable_value;
use crate::state::public_key;

/// The trusted keys and heads: the given keys, or this gateway's own key if the trail is its own.
pub(super) fn trust_anchors(
    path: &Path,
    dir: Option<&Path>,
    (keys, heads): (&[String], &[PathBuf]),
) -> anyhow::Result<TrustAnchors> {
    let mut trusted = TrustAnchors::default();
    for key in keys {
        trusted.keys.push(public(key)?);
    }
    if keys.is_empty() && dir.is_none() {
        let path = public_key(&settings(path)?.state_dir.value);
        let key = std::fs::read_to_string(&path).map_err(anyhow::Error::from);
        let key = key.and_then(|key| Ok(CheckpointKey::parse(&key)?));
        // Without the key, the signer of the heads cannot be determined.
        let hint = || {
            format!("{}: cannot read the public key of this gateway; give another with --key", path.display())
        };
        trusted.keys.push(key.with_context(hint)?);
    }
    for file in heads {
        let note = text_of(file)?;
        let wrong = || format!("{}: not a head that a trusted key has signed", file.display());
        trusted.heads.push(trusted.open(&note).with_context(wrong)?);
    }
    Ok(trusted)
}

/// Reads from a file a text that claviger printed, without what mail programs and editors add to it.
fn text_of(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let lines = text.trim_start_matches('\u{feff}').trim().lines().map(str::trim_end);
    Ok(lines.fold(String::with_capacity(text.len()), |text, line| text + line + "\n"))
}

/// Parses a public key, given as text or as a file.
fn public(key: &str) -> anyhow::Result<CheckpointKey> {
    if let Ok(parsed) = CheckpointKey::parse(key) {
        return Ok(parsed);
    }
    let text = text_of(Path::new(key)).with_context(|| format!("neither a public key nor a file: {key}"))?;
    CheckpointKey::parse(&text).with_context(|| key.to_owned())
}

/// Reads two heads that the key has signed.
pub(super) fn heads(key: &str, (earlier, later): (&Path, &Path)) -> anyhow::Result<(Checkpoint, Checkpoint)> {
    let key = public(key)?;
    let open = |file: &Path| {
        key.open(&text_of(file)?)
            .with_context(|| format!("{}: not a head that this key has signed", file.display()))
    };
    Ok((open(earlier)?, open(later)?))
}

/// Checks a proof of consistency between two heads.
pub(super) fn consistency(
    (earlier, later): (Checkpoint, Checkpoint),
    proof: &Path,
    output: Output,
) -> anyhow::Result<bool> {
    let holds = check_consistency(&earlier, &later, &text_of(proof)?);
    match output {
        Output::Json => print(&format!("{}\n", serde_json::json!({"consistent": holds}))),
        Output::Text if holds => {
            print(&format!(
                "the {} events of the later head begin with the {} of the earlier\n",
                later.size, earlier.size
            ));
        }
        Output::Text => eprint("the proof does not show that the later head only adds to the earlier one\n"),
    }
    Ok(holds)
}

pub(super) fn proof(file: &Path, key: &str, output: Output) -> anyhow::Result<bool> {
    let (text, key) = (text_of(file)?, public(key)?);
    let checked = Proof::parse(&text).and_then(|proof| proof.check(&key).map(|head| (proof, head)));
    let (proof, head) = checked.with_context(|| file.display().to_string())?;
    if output == Output::Text {
        let (number, size, time) = (proof.index + 1, head.size, head.time);
        print(&format!("proven: event {number} of the {size} that were signed at {time}\n"));
    }
    print(&format_line(&proof.line, output));
    Ok(true)
}

/// The result of a verification, with its folder.
#[derive(Serialize)]
struct Verified<'r> {
    dir: Cow<'r, str>,
    #[serde(flatten)]
    report: &'r Report,
}

pub(super) fn run(
    dir: &Path,
    (trusted, last): (&TrustAnchors, Option<&LastHead>),
    output: Output,
) -> anyhow::Result<bool> {
    let mut report =
        verify_against(last, dir, trusted, progress(dir)).with_context(|| dir.display().to_string())?;
    let nothing = (report.events == 0).then(|| Finding {
        segment: String::new(),
        line: 0,
        seq: report.retired + 1,
        problem: "the trail has no event, so nothing was verified".into(),
    });
    report.finding = report.finding.or(nothing);
    let ok = report.finding.is_none();
    match (output, &report.finding) {
        (Output::Json, _) => {
            let verified = Verified { dir: dir.to_string_lossy(), report: &report };
            print(&format!("{}\n", serde_json::to_string(&verified)?));
        }
        (Output::Text, Some(finding)) => eprint(&format_finding(dir, finding)),
        (Output::Text, None) => print(&format_report(dir, trusted, &report)),
    }
    Ok(ok)
}

fn format_finding(dir: &Path, finding: &Finding) -> String {
    let Finding { segment, line, seq, problem } = finding;
    let (dir, segment) = (dir.display(), printable_value(segment));
    match line {
        0 => format!("the trail in {dir} is not intact (at seq {seq}): {problem}\n"),
        _ => format!("the trail in {dir} is not intact: {segment}:{line} (seq {seq}): {problem}\n"),
    }
}

/// Formats the result of a verification, for people.
fn format_report(dir: &Path, trusted: &TrustAnchors, report: &Report) -> String {
    let Report { segments, events, retired, heads, unsigned, open, unfinished_bytes, .. } = report;
    let mut lines = vec![format!("the trail is intact: {events} events in {segments} segments")];
    let word = |time: &Option<String>| printable_value(time.as_deref().unwrap_or("-")).into_owned();
    lines.push(format!("of {} to {}, in {}", word(&report.first), word(&report.last), dir.display()));
    if *retired > 0 {
        lines.push(format!("the first {retired} events were deleted; a signed stub stands for them"));
    }
    if let Some(last) = report.checkpoint.as_deref().and_then(Checkpoint::parse_unverified) {
        lines.push(format!(
            "the last head covers {} events, and was signed at {}",
            last.size,
            printable_value(&last.time)
        ));
    }
    if trusted.keys.is_empty() {
        lines.push(format!("heads: {heads}, whose signatures were not verified; give a key with --key"));
    } else {
        lines.push(format!("heads: {heads}, all signed by a trusted key; events since the last: {unsigned}"));
    }
    if *open > 0 {
        lines.push(format!(
            "{open} calls have no outcome yet: in flight, or lost when the gateway last ended"
        ));
    }
    if *unfinished_bytes > 0 {
        lines.push(format!("{unfinished_bytes} bytes after the last event are not a complete line yet"));
    }
    lines.join("\n") + "\n"
}
