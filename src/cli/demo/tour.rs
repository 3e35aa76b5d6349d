//! The tour. It prints no statement that it did not check first.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};

use super::caller::{Call, Reply};
use super::page::Page;
use super::scene::Scene;
use super::standin::{DEFAULT_ORG, OTHER_ORG, Received};
use super::trail;
use crate::code::Code;
use crate::inbound::token;

/// The target of the call that the tour follows.
const LISTING: &str = "/api/v1/users/users/?limit=2";
const USERS: &str = "/api/v1/users/users/";
const MINT: &str = "/api/v1/authentication/access-keys/";

type Step = fn(&mut Tour<'_>) -> anyhow::Result<()>;

const STEPS: [(&str, Step); 7] = [
    ("The gateway", |tour| tour.gateway()),
    ("The call that a script makes", |tour| tour.call()),
    ("What the upstream received", |tour| tour.received()),
    ("What is refused", |tour| tour.refused()),
    ("Following `next` stays behind the gateway", |tour| tour.links()),
    ("The audit trail of these calls", trail::shown),
    ("The trail verified, and a forged copy found out", trail::verified),
];

/// The titles of the steps, in order.
pub(super) fn titles() -> Vec<&'static str> {
    STEPS.iter().map(|(title, _)| *title).collect()
}

/// The state of a running tour.
pub(super) struct Tour<'a> {
    pub(super) scene: &'a Scene,
    pub(super) page: &'a mut Page,
    /// The calls made so far.
    pub(super) made: Vec<Made>,
}

/// A call that the tour made.
pub(super) struct Made {
    pub(super) request_id: String,
    pub(super) status: u16,
    /// The code, if the gateway answered by itself.
    pub(super) code: Option<String>,
}

/// Runs all steps of the tour.
///
/// # Errors
/// The first step that failed, and what is wrong with it.
pub(super) fn run(scene: &Scene, page: &mut Page) -> anyhow::Result<()> {
    let mut tour = Tour { scene, page, made: Vec::new() };
    for (number, (title, step)) in (1..).zip(STEPS) {
        let title = format!("{number}. {title}");
        tour.page.heading(&title);
        step(&mut tour).context(title)?;
    }
    let said = tour.page.text();
    ensure!(!said.contains(&scene.secret()), "the secret of the access key was printed");
    Ok(())
}

/// Prints commands with which the reader can repeat the tour.
pub(super) fn by_hand(scene: &Scene, page: &mut Page) {
    let (address, token, config) = (scene.address(), scene.token(), scene.config());
    page.heading("By hand, from another terminal");
    let new = Call {
        method: "POST",
        body: Some(r#"{"name":"New Hire","username":"newhire"}"#),
        ..Call::get(USERS)
    };
    let gone = Call { method: "DELETE", ..Call::get("/api/v1/users/users/?username=newhire") };
    for call in [Call::get(LISTING), new, gone, Call { method: "POST", ..Call::get(MINT) }] {
        page.line(&call.curl(address, &token));
    }
    let config = config.display();
    page.line(&format!("claviger --config {config} audit show"));
    page.line(&format!("claviger --config {config} audit verify"));
    page.line(&format!("claviger --config {config} explain --consumer onboarding DELETE {USERS}"));
    page.line("\nCtrl-C ends the demo and removes its folder.");
}

impl Tour<'_> {
    fn gateway(&mut self) -> anyhow::Result<()> {
        let (token, config) = (self.scene.token(), std::fs::read_to_string(self.scene.config())?);
        ensure!(token::is_well_formed(&token), "the token has not the form of one");
        ensure!(!config.contains(&token), "the configuration holds the token");
        ensure!(!config.contains(&self.scene.secret()), "the configuration holds the secret");
        let secret = self.scene.folder().join("jms.secret");
        let mode = std::fs::metadata(&secret)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the secret's file has the mode {mode:o}");
        let page = &mut *self.page;
        page.line(&format!(
            "A gateway listens on http://{}, before a stand-in JumpServer",
            self.scene.address()
        ));
        page.line(&format!(
            "on http://{}. Both end with this demo, and so does",
            self.scene.standin().address()
        ));
        page.line(&format!("    {}", self.scene.folder().display()));
        page.line("The tool `onboarding` calls with this token of the gateway's:");
        page.line(&format!("    {token}"));
        page.line("The whole configuration (with neither the token nor the upstream's secret in it):");
        page.quote(&config);
        Ok(())
    }

    fn call(&mut self) -> anyhow::Result<()> {
        let call = Call::get(LISTING);
        let reply = self.make(&call)?;
        expect(&reply, 200)?;
        ensure!(reply.json().get("count").is_some(), "the answer is not a page of users");
        ensure!(reply.header("set-cookie").is_none(), "the upstream's cookie came through");
        let page = &mut *self.page;
        page.line(&call.curl(self.scene.address(), &self.scene.token()));
        page.quote(&reply.shown());
        page.line("The script has the gateway's address and the gateway's token, and no more.");
        Ok(())
    }

    fn received(&mut self) -> anyhow::Result<()> {
        let seen = self.scene.standin().seen();
        let received = seen.last().context("the upstream received nothing")?;
        ensure!(seen.len() == 1 && received.target == LISTING, "not this one call");
        let authorization = signed(received)?;
        let key = format!("Signature keyId=\"{}\",", self.scene.key_id());
        ensure!(authorization.starts_with(&key), "not signed with the access key of the configuration");
        ensure!(received.all("x-jms-org") == [DEFAULT_ORG], "not exactly the one granted organisation");
        ensure!(received.all("date").len() == 1, "not exactly one Date");
        self.absent(received)?;
        let page = &mut *self.page;
        page.quote(&format!("{} {} HTTP/1.1", received.method, received.target));
        for name in ["Authorization", "Date", "X-JMS-ORG"] {
            page.quote(&format!("{name}: {}", received.all(name).concat()));
        }
        page.line("The stand-in verified the signature with its own code. The consumer's token is not");
        page.line(
            "in what it received; in what the consumer received, there is neither half of the access key.",
        );
        Ok(())
    }

    fn refused(&mut self) -> anyhow::Result<()> {
        let before = self.scene.standin().seen().len();
        let other = format!("X-JMS-ORG: {OTHER_ORG}");
        let calls = [
            (
                "Minting a key of its own: a rule forbids it.",
                Code::DeniedByRule,
                Call { method: "POST", ..Call::get(MINT) },
            ),
            (
                "Another organisation than the granted one.",
                Code::OrgOverride,
                Call { line: Some(&other), ..Call::get(LISTING) },
            ),
            (
                "A DELETE without a filter, which would delete everyone: no rule allows it.",
                Code::Denied,
                Call { method: "DELETE", ..Call::get(USERS) },
            ),
        ];
        for (why, code, call) in calls {
            let reply = self.make(&call)?;
            expect(&reply, 403)?;
            let answered = reply.header("claviger-error").unwrap_or("nothing");
            ensure!(answered == code.as_str(), "refused as {answered}, not as {}", code.as_str());
            self.page.line(why);
            self.page.line(&call.curl(self.scene.address(), &self.scene.token()));
            self.page.quote(&reply.shown());
        }
        let after = self.scene.standin().seen().len();
        ensure!(after == before, "the upstream received {} of them", after - before);
        self.page.line("None of them reached the upstream.");
        Ok(())
    }

    fn links(&mut self) -> anyhow::Result<()> {
        let first = self.scene.standin().seen().into_iter().next().context("no call to go on from")?;
        let sent: serde_json::Value = serde_json::from_str(&first.answer)?;
        let wrote =
            sent.get("next").and_then(|next| next.as_str()).context("the upstream's answer has no `next`")?;
        let own = format!("http://{}/", self.scene.standin().address());
        ensure!(wrote.starts_with(&own), "the upstream's `next` does not name the upstream");
        self.page.line(
            "The upstream's own answer names the upstream's own address. A script that follows it would",
        );
        self.page.line("leave the gateway, and hand its token to the upstream:");
        self.page.quote(&format!("next: {wrote}"));
        self.page.line("The consumer got, and follows:");
        let (gateway, mut target) = (format!("http://{}", self.scene.address()), LISTING.to_owned());
        let (mut users, mut pages, mut count) = (0, 0, None);
        loop {
            let reply = self.make(&Call::get(&target))?;
            expect(&reply, 200)?;
            let body = reply.json();
            users += body.get("results").and_then(|results| results.as_array()).map_or(0, Vec::len);
            count = body.get("count").and_then(serde_json::Value::as_u64).or(count);
            pages += 1;
            let Some(next) = body.get("next").and_then(|next| next.as_str()) else { break };
            let rest = next.strip_prefix(&gateway).filter(|rest| rest.starts_with('/'));
            rest.with_context(|| format!("`next` leaves the gateway: {next}"))?.clone_into(&mut target);
            ensure!(pages < 10, "the pages do not end");
            self.page.quote(&format!("next: {next}"));
        }
        ensure!(
            pages > 1 && Some(users) == count.and_then(|count| count.try_into().ok()),
            "not every user was read"
        );
        let seen = self.scene.standin().seen();
        for received in &seen {
            signed(received)?;
            self.absent(received)?;
        }
        self.page.line(&format!(
            "All {users} users on {pages} pages, and every call came to the upstream signed."
        ));
        Ok(())
    }

    /// Makes a call, and remembers what the trail must record of it.
    fn make(&mut self, call: &Call<'_>) -> anyhow::Result<Reply> {
        let reply = call.make(self.scene.address(), &self.scene.token()).context("the gateway's answer")?;
        let key = [self.scene.secret(), self.scene.key_id().to_owned()];
        ensure!(!key.iter().any(|half| reply.holds(half)), "the answer shows the access key");
        let request_id = reply.header("x-request-id").context("the answer has no X-Request-Id")?.to_owned();
        let code = reply.header("claviger-error").map(ToOwned::to_owned);
        self.made.push(Made { request_id, status: reply.status, code });
        Ok(reply)
    }

    /// Checks that a received request contains neither the consumer's token nor the secret.
    fn absent(&self, received: &Received) -> anyhow::Result<()> {
        for (secret, what) in
            [(self.scene.token(), "consumer's token"), (self.scene.secret(), "access key's secret")]
        {
            let held = |bytes: &[u8]| memchr::memmem::find(bytes, secret.as_bytes()).is_some();
            ensure!(!held(&received.head) && !held(&received.body), "the {what} reached the upstream");
        }
        Ok(())
    }
}

/// The only `Authorization` value of a request whose signature the stand-in has verified.
fn signed(received: &Received) -> anyhow::Result<&str> {
    if let Some(why) = &received.unsigned {
        anyhow::bail!("the stand-in does not accept the signature of {}: {why}", received.target);
    }
    received.all("authorization").first().copied().context("no Authorization")
}

fn expect(reply: &Reply, status: u16) -> anyhow::Result<()> {
    ensure!(reply.status == status, "answered with {}, not {status}: {}", reply.status, reply.shown());
    Ok(())
}
