//! `claviger audit show`: prints the latest events of the trail.

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Context as _;

use super::context::format_line;
use crate::audit::each_line;
use crate::audit::trail::event::Event;
use crate::cli::{Output, print};

pub(super) fn run(dir: &Path, last: usize, request_id: Option<&str>, output: Output) -> anyhow::Result<bool> {
    let mut latest: VecDeque<Vec<u8>> = VecDeque::new();
    let add = |line: &[u8]| {
        let is_selected = |event: Event<'_>| {
            request_id.is_none_or(|request_id| event.request_id.as_deref() == Some(request_id))
        };
        if last > 0 && Event::parse(line).is_some_and(is_selected) {
            if latest.len() == last {
                latest.pop_front();
            }
            latest.push_back(line.to_vec());
        }
        true
    };
    each_line(dir, add).with_context(|| dir.display().to_string())?;
    for line in &latest {
        print(&format_line(line, output));
    }
    Ok(true)
}
