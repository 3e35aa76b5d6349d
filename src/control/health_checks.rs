//! Runs the health checks of all endpoints, in one task for all workers. The trail does not record these checks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::task::JoinSet;

use crate::gateway::Snapshot;
use crate::transport::check;

/// How often the task looks for checks that are due.
const LOOK: Duration = Duration::from_millis(250);

/// Checks the health of the endpoints of `current` until the future is dropped.
pub async fn look_after(current: Arc<ArcSwap<Snapshot>>) {
    let mut checks = JoinSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        while checks.try_join_next().is_some() {}
        let (snapshot, now) = (current.load_full(), Instant::now());
        for upstream in &snapshot.upstreams {
            let Some(health) = &upstream.health else { continue };
            let alone = upstream.others.is_empty();
            for destination in upstream.destinations() {
                if !destination.endpoint.state.is_check_due(now, health.interval, alone) {
                    continue;
                }
                let (endpoint, host) = (destination.endpoint.clone(), destination.settings.host.clone());
                let target = health.target.clone();
                checks.spawn_local(async move {
                    let found = check(&endpoint, host, target).await;
                    let reason = found.as_ref().err().map(|failure| failure.reason.as_str());
                    endpoint.state.record_check(reason);
                });
            }
        }
    }
}
