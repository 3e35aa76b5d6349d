//! `claviger audit show`: prints the latest events of the trail.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::{Output, print, row};
use crate::audit::each_line;

pub(super) fn run(dir: &Path, last: usize, request_id: Option<&str>, output: Output) -> anyhow::Result<bool> {
    let mut kept: VecDeque<(String, Value)> = VecDeque::new();
    let keep = |line: &[u8]| {
        let event = serde_json::from_slice::<Value>(line).ok();
        let is_of = |event: &Value| {
            request_id.is_none_or(|id| event.get("request_id").and_then(Value::as_str) == Some(id))
        };
        if let Some(event) = event.filter(is_of)
            && last > 0
        {
            if kept.len() == last {
                kept.pop_front();
            }
            kept.push_back((String::from_utf8_lossy(line).into_owned(), event));
        }
        true
    };
    each_line(dir, keep).with_context(|| dir.display().to_string())?;
    for (line, event) in &kept {
        match output {
            Output::Json => print(&format!("{line}\n")),
            Output::Text => print(&row(event)),
        }
    }
    Ok(true)
}
