//! Where what upstreams give for credentials is kept, over reloads too.

use std::collections::HashMap;
use std::sync::Arc;

use super::upstreams::Upstreams;
use crate::custody::Custody;
use crate::gateway::Snapshot;
use crate::scheme::Slot;

/// A slot for each credential whose upstream gives something for it, by its place. Where login, upstream
/// and settings are the same it is the one in use so far: a reload costs no login and ends no wait, and
/// whoever corrects a setting need not wait.
pub(super) fn slots(
    upstreams: &Upstreams,
    custody: &Custody,
    former: Option<&Snapshot>,
) -> HashMap<usize, Arc<Slot>> {
    let mut slots = HashMap::new();
    for (name, (place, upstream)) in &upstreams.credentials {
        let (Some(upstream), Some(credential)) =
            (upstreams.compiled.get(*upstream), custody.credential(*place))
        else {
            continue;
        };
        if !upstream.scheme.has_passes() {
            continue;
        }
        let kept = former.and_then(|former| {
            let held = former.upstreams.iter().find(|held| held.name == upstream.name)?;
            let (at, before) =
                former.custody.iter().enumerate().find(|(_, held)| held.name.as_str() == name)?;
            let goes_on = held.origins() == upstream.origins()
                && held.manners.base == upstream.manners.base
                && held.scheme.shares_passes(&upstream.scheme)
                && credential.goes_on(before);
            former.passes.get(&at).filter(|_| goes_on).map(Arc::clone)
        });
        let new = || Arc::new(Slot::new(upstream.name, credential.name));
        slots.insert(*place, kept.unwrap_or_else(new));
    }
    slots
}
