//! Plays a file: starts a gateway and its upstream, sends the requests, and keeps all results for the
//! checks.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::audit::Folder;
use claviger::clock::{Clock, SystemClock};
use serde_json::Value;

use super::text::{Fault, Line, Piece, Step, Story};
use crate::support::upstream::{Reply, SECRET, Seen, Upstream};
use crate::support::world::{self, Answer, ORG, OTHER_ORG, OTHER_TOKEN, Raw, TOKEN, World};

/// Time-outs that even a busy machine does not reach; other tests check the time-outs.
const PATIENT: &str = r#"
[limits]
header_timeout = "60s"
body_timeout = "60s"
upstream_timeout = "60s"
idle_timeout = "60s"
"#;

/// The results of one request.
#[derive(Debug)]
pub struct Came {
    pub answer: Answer,
    /// The requests that the upstream received.
    pub seen: Vec<Seen>,
    /// The events on the trail with the answer's request id.
    pub events: Vec<Value>,
}

/// The results of a file's requests, and the events that belong to none of them.
pub struct Played {
    pub steps: Vec<Came>,
    pub stray: Vec<Value>,
    /// The upstream's address, as `{upstream}`.
    pub upstream: String,
    /// How every request must carry the credential.
    pub carried: Carried,
}

/// How the upstream `jms` must receive its credential.
pub enum Carried {
    /// By a signature.
    Signed,
    /// In this header line.
    Line(String, String),
    /// Only in the body of logins.
    Login,
}

/// A clock that shows the time given in the file.
struct Told(Mutex<SystemTime>);

impl Clock for Told {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// The state of the stand-in upstream.
#[derive(Default)]
struct Stage {
    cue: Mutex<Cue>,
    turned: Condvar,
}

#[derive(Default)]
struct Cue {
    reply: Vec<u8>,
    /// The answer to a login.
    login: Vec<u8>,
    /// Whether to hold the next request.
    hold: bool,
    held: bool,
}

impl Stage {
    fn reply(&self, seen: &Seen) -> Reply {
        let mut cue = self.cue.lock().unwrap();
        if String::from_utf8_lossy(&seen.body).contains(SECRET) {
            return Reply { bytes: cue.login.clone(), close: false };
        }
        let bytes = cue.reply.clone();
        if std::mem::take(&mut cue.hold) {
            cue.held = true;
            self.turned.notify_all();
            drop(self.turned.wait_timeout_while(cue, Duration::from_secs(30), |cue| cue.held).unwrap());
        }
        Reply { bytes, close: false }
    }

    fn set(&self, reply: Vec<u8>, login: Option<Vec<u8>>, hold: bool) {
        let mut cue = self.cue.lock().unwrap();
        (cue.reply, cue.hold) = (reply, hold);
        cue.login = login.unwrap_or_else(|| std::mem::take(&mut cue.login));
    }

    /// Waits until the upstream holds a request.
    fn wait(&self) -> bool {
        let cue = self.cue.lock().unwrap();
        self.turned.wait_timeout_while(cue, Duration::from_secs(20), |cue| !cue.held).unwrap().0.held
    }

    fn release(&self) {
        self.cue.lock().unwrap().held = false;
        self.turned.notify_all();
    }
}

/// Plays the file.
pub fn play(story: &Story) -> Result<Played, Fault> {
    let config = config(&story.config)?;
    let stage = Arc::new(Stage::default());
    let part = Arc::clone(&stage);
    let upstream = Upstream::start(move |seen| part.reply(seen));
    let address = upstream.address.to_string();
    let clock = story.steps.first().and_then(|step| step.clock).map(|time| Arc::new(Told(Mutex::new(time))));
    let of_world: Arc<dyn Clock> =
        clock.clone().map_or_else(|| Arc::new(SystemClock) as _, |clock| clock as _);
    let mut world = World::on(upstream, &config, |dir| Box::new(Folder::new(dir)), of_world);
    let mut came: Vec<Option<(Answer, Vec<Seen>)>> = Vec::new();
    let mut holding: Option<(usize, Raw)> = None;
    for (at, step) in story.steps.iter().enumerate() {
        if let (Some(clock), Some(time)) = (&clock, step.clock) {
            *clock.0.lock().unwrap() = time;
        }
        let login = Some(&step.login).filter(|lines| !lines.is_empty());
        let login = login.map(|lines| reply(lines, &address)).transpose()?;
        stage.set(reply(&step.reply, &address)?, login, step.holds);
        let before = world.upstream.seen().len();
        let mut raw = world.connect();
        raw.socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        raw.send(request(step, &address)?);
        came.push(None);
        if step.holds {
            if !stage.wait() {
                return Err(Fault::new(step.line, "the request to be held never reached the upstream"));
            }
            holding = Some((at, raw));
            continue;
        }
        let answer = raw.answer();
        came[at] = Some((answer, world.upstream.seen().split_off(before)));
        if let Some((held, mut raw)) = holding.take() {
            let before = world.upstream.seen().len();
            stage.release();
            came[held] = Some((raw.answer(), world.upstream.seen().split_off(before)));
        }
    }
    if let Some(server) = world.server.take() {
        server.stop(Duration::from_secs(10));
    }
    let (steps, stray) = with_events(came.into_iter().flatten().collect(), world.trail());
    Ok(Played { steps, stray, upstream: address, carried: carried(&config).unwrap_or(Carried::Signed) })
}

/// How the upstream `jms` must receive its credential.
fn carried(config: &str) -> Option<Carried> {
    let config: toml::Table = config.parse().unwrap();
    let scheme = config["upstreams"].get("jms")?.get("scheme")?.as_table()?;
    let (tag, settings) = scheme.iter().next()?;
    let authorization =
        |word: &str| Some(Carried::Line("authorization".to_owned(), format!("{word} {SECRET}")));
    match tag.as_str() {
        "bearer" => authorization("Bearer"),
        "token" => authorization("Token"),
        "header" => Some(Carried::Line(settings["name"].as_str()?.to_owned(), SECRET.to_owned())),
        "login" => Some(Carried::Login),
        _ => None,
    }
}

fn with_events(came: Vec<(Answer, Vec<Seen>)>, mut trail: Vec<Value>) -> (Vec<Came>, Vec<Value>) {
    let steps = came.into_iter().map(|(answer, seen)| {
        let id = answer.header("x-request-id").map(String::from);
        let ours = |event: &mut Value| id.is_some() && event["request_id"].as_str() == id.as_deref();
        let events = trail.extract_if(.., ours).collect();
        Came { answer, seen, events }
    });
    let steps = steps.collect();
    (steps, trail)
}

/// The configuration of a file: its own pieces merged into the common one, or a complete one.
fn config(pieces: &[Piece]) -> Result<String, Fault> {
    if let Some(whole) = pieces.iter().find(|piece| piece.whole) {
        let alone = pieces.len() == 1;
        return alone
            .then(|| whole.toml.clone())
            .ok_or(Fault::new(whole.line, "`config whole` stands alone"));
    }
    let mut base: toml::Table = world::CONFIG.parse().unwrap();
    lay(&mut base, PATIENT.parse().unwrap());
    for piece in pieces {
        let top = piece.toml.parse().map_err(|error| Fault::new(piece.line, format!("no TOML: {error}")))?;
        lay(&mut base, top);
    }
    Ok(toml::to_string(&base).unwrap())
}

/// Merges `top` into `base`: tables are merged; every other value and every scheme is replaced.
fn lay(base: &mut toml::Table, top: toml::Table) {
    for (key, value) in top {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) if key != "scheme" => {
                lay(below, above);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// The bytes of the request.
fn request(step: &Step, upstream: &str) -> Result<Vec<u8>, Fault> {
    let filled: Vec<Line> =
        step.request.iter().map(|line| Line { text: filled(&line.text, upstream), ..line.clone() }).collect();
    let (head, body) = halves(&filled);
    let body = bytes(body, "\n")?;
    let length = body.len().to_string();
    let head = head.iter().map(|line| Line { text: line.text.replace("{length}", &length), ..line.clone() });
    Ok([bytes(&head.collect::<Vec<_>>(), "\r\n")?, b"\r\n\r\n".to_vec(), body].concat())
}

/// The bytes of the upstream's answer, with a `Content-Length` unless the file has one.
fn reply(lines: &[Line], upstream: &str) -> Result<Vec<u8>, Fault> {
    let lines: Vec<Line> =
        lines.iter().map(|line| Line { text: filled(&line.text, upstream), ..line.clone() }).collect();
    let Some(status) = lines.first() else { return Ok(Reply::json("{\"ok\":true}").bytes) };
    if !status.text.bytes().take(3).all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::new(status.number, "the upstream's answer begins with a status"));
    }
    let (head, body) = halves(&lines);
    let body = bytes(body, "\n")?;
    let mut head = bytes(head, "\r\n")?;
    let told = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if !told.contains("content-length:") && !told.contains("transfer-encoding:") && !told.starts_with("204") {
        head.extend_from_slice(format!("\r\nContent-Length: {}", body.len()).as_bytes());
    }
    Ok([b"HTTP/1.1 ", head.as_slice(), b"\r\n\r\n", &body].concat())
}

/// The lines of the head and of the body, separated by an empty line.
fn halves(lines: &[Line]) -> (&[Line], &[Line]) {
    let end = lines.iter().position(|line| line.text.is_empty()).unwrap_or(lines.len());
    (&lines[..end], lines.get(end + 1..).unwrap_or_default())
}

/// The text with its placeholders in braces filled in.
pub fn filled(text: &str, upstream: &str) -> String {
    let names = [
        ("{token}", TOKEN),
        ("{other_token}", OTHER_TOKEN),
        ("{org}", ORG),
        ("{other_org}", OTHER_ORG),
        ("{secret}", SECRET),
    ];
    let mut text = text.replace("{upstream}", upstream);
    for (name, value) in names {
        text = text.replace(name, value);
    }
    if let Some((before, rest)) = text.split_once("{base64 ")
        && let Some((inner, after)) = rest.split_once('}')
    {
        return format!("{before}{}{after}", STANDARD.encode(inner));
    }
    text
}

/// The bytes of the lines; `\xNN`, `\r`, `\n`, `\t` and `\\` stand for bytes that a text line cannot contain.
fn bytes(lines: &[Line], end: &str) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(end.as_bytes());
        }
        let mut rest = line.text.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            let (byte, taken) = if *byte == b'\\' { escape(after, line)? } else { (*byte, 0) };
            out.push(byte);
            rest = &after[taken..];
        }
    }
    Ok(out)
}

/// The byte that an escape after a backslash stands for, and the length of the escape.
fn escape(after: &[u8], line: &Line) -> Result<(u8, usize), Fault> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    match after {
        [b'r', ..] => Ok((b'\r', 1)),
        [b'n', ..] => Ok((b'\n', 1)),
        [b't', ..] => Ok((b'\t', 1)),
        [b'\\', ..] => Ok((b'\\', 1)),
        [b'x', high, low, ..] if hex(&[*high, *low]).is_some() => Ok((hex(&[*high, *low]).unwrap_or(0), 3)),
        _ => Err(Fault::new(line.number, "a backslash is followed by xNN, r, n, t or another one")),
    }
}
