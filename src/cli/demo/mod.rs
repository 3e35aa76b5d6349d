//! `claviger demo`: a whole gateway on a stand-in JumpServer, in a temporary folder, and a tour of what it does.

mod caller;
mod message;
mod page;
mod scene;
mod standin;
mod tour;
mod trail;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{Output, eprint, print};
use page::Page;
use scene::{Door, Keys, Scene, USUAL};
use tour::Tour;

/// The options of the demo.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the tour: exit code 0 if everything was as it should be, else 1
    #[arg(long)]
    check: bool,
}

type Step = fn(&mut Tour<'_>) -> anyhow::Result<()>;

/// The steps of the tour, in order, each with its title.
const STEPS: [(&str, Step); 7] = [
    ("The gateway", |tour| tour.show_gateway()),
    ("The call that a script makes", |tour| tour.make_call()),
    ("What the upstream received", |tour| tour.show_received()),
    ("What is refused", |tour| tour.show_refusals()),
    ("Following `next` stays behind the gateway", |tour| tour.follow_links()),
    ("The audit trail of these calls", trail::show_events),
    ("The trail verified, and a forged copy found out", trail::show_verification),
];

/// Runs the demo; returns whether everything was as it should be.
pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signal handlers come first: from here on no signal ends the process and leaves the folder behind.
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals = runtime.block_on(async { kinds.map(signal) });
    let door = if args.check { Door::any() } else { Door::at(USUAL) };
    let mut page = Page::new(output == Output::Text);
    if door.is_any() && !args.check {
        page.line("The usual address, 127.0.0.1:7070, is taken: the gateway listens on another port.");
    }
    let scene = Scene::open(door, Keys::random()?)?;
    let result = tour(&scene, &mut page);
    if output == Output::Json {
        print(&format!("{}\n", json(&scene, result.as_ref().err())));
    }
    match &result {
        Ok(()) if args.check => page.line("Everything was as it should be."),
        Ok(()) => {
            tour::by_hand(&scene, &mut page);
            let [interrupt, terminate, hangup] = signals;
            let (mut interrupt, mut terminate, mut hangup) = (interrupt?, terminate?, hangup?);
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
            });
        }
        Err(fault) => eprint(&format!("claviger: not as it should be: {fault:#}\n")),
    }
    scene.close()?;
    page.line("The gateway has ended; its folder is removed.");
    Ok(result.is_ok())
}

/// Runs all steps of the tour.
///
/// # Errors
/// The first step that failed, and what is wrong with it.
fn tour(scene: &Scene, page: &mut Page) -> anyhow::Result<()> {
    let mut tour = Tour { scene, page, calls: Vec::new() };
    for (number, (title, step)) in (1..).zip(STEPS) {
        let title = format!("{number}. {title}");
        tour.page.heading(&title);
        step(&mut tour).context(title)?;
    }
    ensure!(!page.text.contains(&scene.keys.secret), "the secret of the access key was printed");
    Ok(())
}

/// The result of the demo as JSON, for programs.
fn json(scene: &Scene, fault: Option<&anyhow::Error>) -> serde_json::Value {
    json!({
        "ok": fault.is_none(),
        "wanting": fault.map(|fault| format!("{fault:#}")),
        "steps": STEPS.map(|(title, _)| title),
        "address": scene.address.to_string(),
        "config": scene.config(),
        "token": scene.token,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
