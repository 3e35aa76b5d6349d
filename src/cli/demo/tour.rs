//! The first steps of the tour. It prints no statement that it did not check first.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::caller::{Call, Reply};
use super::page::Page;
use super::scene::Scene;
use super::standin::{DEFAULT_ORG, OTHER_ORG, Received};
use crate::code::Code;
use crate::inbound::token;

/// The target of the call that the tour follows.
const LISTING: &str = "/api/v1/users/users/?limit=2";
const USERS: &str = "/api/v1/users/users/";
const MINT: &str = "/api/v1/authentication/access-keys/";

/// The state of a running tour.
pub(super) struct Tour<'a> {
    pub(super) scene: &'a Scene,
    pub(super) page: &'a mut Page,
    /// The calls made so far.
    pub(super) calls: Vec<MadeCall>,
}

/// A call that the tour made.
pub(super) struct MadeCall {
    pub(super) request_id: String,
    pub(super) status: u16,
    /// The code, if the gateway answered by itself.
    pub(super) code: Option<String>,
}

/// Prints commands with which the reader can repeat the tour.
pub(super) fn by_hand(scene: &Scene, page: &mut Page) {
    page.heading("By hand, from another terminal");
    let body = Some(r#"{"name":"New Hire","username":"newhire"}"#);
    let new = Call { method: "POST", body, ..Call::get(USERS) };
    let gone = Call { method: "DELETE", ..Call::get("/api/v1/users/users/?username=newhire") };
    for call in [Call::get(LISTING), new, gone, Call { method: "POST", ..Call::get(MINT) }] {
        page.line(&call.curl(scene.address, &scene.token));
    }
    let config = scene.config();
    for command in ["audit show", "audit verify", "explain --consumer onboarding DELETE /api/v1/users/users/"]
    {
        page.line(&format!("claviger --config {} {command}", config.display()));
    }
    page.line("\nCtrl-C ends the demo and removes its folder.");
}

impl Tour<'_> {
    pub(super) fn show_gateway(&mut self) -> anyhow::Result<()> {
        let (token, config) = (&self.scene.token, std::fs::read_to_string(self.scene.config())?);
        ensure!(token::is_well_formed(token), "the token has not the form of one");
        ensure!(!config.contains(token), "the configuration holds the token");
        ensure!(!config.contains(&self.scene.keys.secret), "the configuration holds the secret");
        let folder = self.scene.folder();
        let mode = std::fs::metadata(folder.join("jms.secret"))?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the secret's file has the mode {mode:o}");
        self.page.line(&format!(
            "A gateway listens on http://{}, before a stand-in JumpServer\n\
             on http://{}. Both end with this demo, and so does\n    {}\n\
             The tool `onboarding` calls with this token of the gateway's:\n    {token}\n\
             The whole configuration (with neither the token nor the upstream's secret in it):",
            self.scene.address,
            self.scene.standin.address,
            folder.display()
        ));
        self.page.quote(&config);
        Ok(())
    }

    pub(super) fn make_call(&mut self) -> anyhow::Result<()> {
        let call = Call::get(LISTING);
        let reply = self.call(&call, 200)?;
        ensure!(reply.json().get("count").is_some(), "the answer is not a page of users");
        ensure!(reply.header("set-cookie").is_none(), "the upstream's cookie came through");
        self.page.line(&call.curl(self.scene.address, &self.scene.token));
        self.page.quote(&reply.summary());
        self.page.line("The script has the gateway's address and the gateway's token, and no more.");
        Ok(())
    }

    pub(super) fn show_received(&mut self) -> anyhow::Result<()> {
        let requests = self.scene.standin.received();
        let received = requests.last().context("the upstream received nothing")?;
        ensure!(requests.len() == 1 && received.target == LISTING, "not this one call");
        let authorization = self.check_signed(received)?;
        let key = format!("Signature keyId=\"{}\",", self.scene.keys.id);
        ensure!(authorization.starts_with(&key), "not signed with the access key of the configuration");
        ensure!(received.all("x-jms-org") == [DEFAULT_ORG], "not exactly the one granted organisation");
        ensure!(received.all("date").len() == 1, "not exactly one Date");
        self.page.quote(&format!("{} {} HTTP/1.1", received.method, received.target));
        for name in ["Authorization", "Date", "X-JMS-ORG"] {
            self.page.quote(&format!("{name}: {}", received.all(name).concat()));
        }
        self.page.line(
            "The stand-in verified the signature with its own code. The consumer's token is not\n\
             in what it received; in what the consumer received, there is neither half of the access key.",
        );
        Ok(())
    }

    pub(super) fn show_refusals(&mut self) -> anyhow::Result<()> {
        let before = self.scene.standin.received().len();
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
            let reply = self.call(&call, 403)?;
            let answered = reply.header("claviger-error").unwrap_or("nothing");
            ensure!(answered == code.as_str(), "refused as {answered}, not as {}", code.as_str());
            self.page.line(&format!("{why}\n{}", call.curl(self.scene.address, &self.scene.token)));
            self.page.quote(&reply.summary());
        }
        let after = self.scene.standin.received().len();
        ensure!(after == before, "the upstream received {} of them", after - before);
        self.page.line("None of them reached the upstream.");
        Ok(())
    }

    pub(super) fn follow_links(&mut self) -> anyhow::Result<()> {
        let first = self.scene.standin.received().into_iter().next().context("no call to go on from")?;
        let sent: Value = serde_json::from_str(&first.answer)?;
        let next = sent.get("next").and_then(Value::as_str).context("the upstream's answer has no `next`")?;
        let upstream = format!("http://{}/", self.scene.standin.address);
        ensure!(next.starts_with(&upstream), "the upstream's `next` does not name the upstream");
        self.page.line(
            "The upstream's own answer names the upstream's own address. A script that follows it would\n\
             leave the gateway, and hand its token to the upstream:",
        );
        self.page.quote(&format!("next: {next}"));
        self.page.line("The consumer got, and follows:");
        let (gateway, mut target) = (format!("http://{}", self.scene.address), LISTING.to_owned());
        let (mut users, mut pages, mut count) = (0, 0, None);
        loop {
            let body = self.call(&Call::get(&target), 200)?.json();
            users += body.get("results").and_then(Value::as_array).map_or(0, Vec::len);
            count = body.get("count").and_then(Value::as_u64).or(count);
            pages += 1;
            let Some(next) = body.get("next").and_then(Value::as_str) else { break };
            let rest = next.strip_prefix(&gateway).filter(|rest| rest.starts_with('/'));
            rest.with_context(|| format!("`next` leaves the gateway: {next}"))?.clone_into(&mut target);
            ensure!(pages < 10, "the pages do not end");
            self.page.quote(&format!("next: {next}"));
        }
        let is_all = Some(users) == count.and_then(|count| count.try_into().ok());
        ensure!(pages > 1 && is_all, "not every user was read");
        for received in &self.scene.standin.received() {
            self.check_signed(received)?;
        }
        let text = format!("All {users} users on {pages} pages, and every call came to the upstream signed.");
        self.page.line(&text);
        Ok(())
    }

    /// Makes a call, checks the status of its answer, and remembers what the trail must record of it.
    fn call(&mut self, call: &Call<'_>, status: u16) -> anyhow::Result<Reply> {
        let scene = self.scene;
        let reply = call.make(scene.address, &scene.token).context("the gateway's answer")?;
        let key = [&scene.keys.secret, &scene.keys.id];
        ensure!(!key.iter().any(|half| reply.contains(half)), "the answer shows the access key");
        let request_id = reply.header("x-request-id").context("the answer has no X-Request-Id")?.to_owned();
        let code = reply.header("claviger-error").map(ToOwned::to_owned);
        self.calls.push(MadeCall { request_id, status: reply.status, code });
        let answered = reply.status;
        ensure!(answered == status, "answered with {answered}, not {status}: {}", reply.summary());
        Ok(reply)
    }

    /// Checks that the stand-in accepts the signature of a request, which contains neither the consumer's token nor the
    /// secret. Returns its only `Authorization` value.
    fn check_signed<'r>(&self, received: &'r Received) -> anyhow::Result<&'r str> {
        if let Some(why) = &received.unsigned {
            anyhow::bail!("the stand-in does not accept the signature of {}: {why}", received.target);
        }
        for (secret, what) in self.scene.secrets() {
            let contains = |bytes: &[u8]| memchr::memmem::find(bytes, secret.as_bytes()).is_some();
            ensure!(
                !contains(&received.head) && !contains(&received.body),
                "the {what} reached the upstream"
            );
        }
        received.all("authorization").first().copied().context("no Authorization")
    }
}
