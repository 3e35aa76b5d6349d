//! `claviger demo`: a whole gateway on a stand-in JumpServer, in a temporary folder, and a tour of what it does.

mod caller;
mod page;
mod scene;
mod standin;
mod tour;
mod trail;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Output, eprint, print};
use page::Page;
use scene::{Door, Keys, Scene};

/// What to show.
#[derive(clap::Args)]
pub(super) struct Args {
    /// End after the tour: exit code 0 if everything was as it should be, else 1
    #[arg(long)]
    check: bool,
}

/// Runs the demo; returns whether everything was as it should be.
pub(super) fn run(asked: &Args, output: Output) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Signal handlers come first: from here on no signal ends the process and leaves the folder behind.
    let signals = runtime.block_on(async { Signals::new() })?;
    let door = if asked.check { Door::Free } else { Door::usual() };
    let mut page = Page::new(output == Output::Text);
    if matches!(door, Door::Free) && !asked.check {
        page.line("The usual address, 127.0.0.1:7070, is taken: the gateway listens on another port.");
    }
    let scene = Scene::open(door, Keys::random()?)?;
    let toured = tour::run(&scene, &mut page);
    if output == Output::Json {
        print(&format!("{}\n", page::json(&scene, toured.as_ref().err())));
    }
    match &toured {
        Ok(()) if asked.check => page.line("Everything was as it should be."),
        Ok(()) => {
            tour::by_hand(&scene, &mut page);
            runtime.block_on(signals.any());
        }
        Err(wanting) => eprint(&format!("claviger: not as it should be: {wanting:#}\n")),
    }
    scene.close()?;
    page.line("The gateway has ended; its folder is removed.");
    Ok(toured.is_ok())
}

/// The signals that end the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn any(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
