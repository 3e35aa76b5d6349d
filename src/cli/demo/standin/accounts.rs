//! The data and answers of the stand-in: a few users and groups, each in an organisation.

use http::StatusCode;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::exchange::{Answer, Received};

/// The organisation of a call that names no other, as in JumpServer.
pub(crate) const DEFAULT_ORG: &str = "00000000-0000-0000-0000-000000000002";
/// The id of a second organisation.
pub(crate) const OTHER_ORG: &str = "0c1a0000-0000-4000-8000-000000000007";

/// The greatest number of items in a page, whatever `limit` is.
const MOST: usize = 1000;

/// The users and groups of the stand-in.
pub(super) struct Accounts {
    users: Vec<User>,
    groups: Vec<Value>,
    count: u64,
}

struct User {
    org: &'static str,
    username: String,
    /// The user in answers.
    json: Value,
}

impl Accounts {
    pub(super) fn new() -> Self {
        let groups = [("Operators", 1), ("Auditors", 2), ("Databases", 3)];
        let groups = groups.map(|(name, number)| json!({ "id": id(0x90, number), "name": name }));
        let mut accounts = Self { users: Vec::new(), groups: groups.to_vec(), count: 0 };
        let people = ["Ada Lovelace", "Alan Turing", "Edsger Dijkstra", "Grace Hopper", "Ken Thompson"];
        for name in people {
            accounts.add(name, &name.split(' ').next().unwrap_or_default().to_lowercase(), DEFAULT_ORG);
        }
        accounts.add("Someone Else", "elsewhere", OTHER_ORG);
        accounts
    }

    fn add(&mut self, name: &str, username: &str, org: &'static str) -> Value {
        self.count += 1;
        let (id, email) = (id(0x11, self.count), format!("{username}@example.com"));
        let json = json!({ "id": id, "name": name, "username": username, "email": email, "is_active": true });
        self.users.push(User { org, username: username.into(), json: json.clone() });
        json
    }

    pub(super) fn answer(&mut self, received: &Received) -> Answer {
        let (path, query) = received.target.split_once('?').unwrap_or((&received.target, ""));
        if path == "/api/health/" {
            return Answer::json(StatusCode::OK, &json!({ "status": true }));
        }
        if !path.ends_with('/') {
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            let location = Some(format!("{path}/{query}"));
            return Answer { status: StatusCode::MOVED_PERMANENTLY, location, body: String::new() };
        }
        if received.unsigned.is_some() {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "authentication_failed",
                "Incorrect authentication credentials.",
            );
        }
        match (received.method.as_str(), path) {
            ("GET" | "HEAD", "/api/v1/users/users/") => self.list(received, query),
            ("POST", "/api/v1/users/users/") => self.create(received),
            ("DELETE", "/api/v1/users/users/") => self.delete(received, query),
            ("GET" | "HEAD", "/api/v1/users/groups/") => page(self.groups.clone(), received, query),
            ("GET" | "HEAD", "/api/v1/orgs/orgs/current/") => current(org(received)),
            // This would give a new key to any caller who may sign; the gateway's rules exist to prevent it.
            ("POST", "/api/v1/authentication/access-keys/") => Answer::json(
                StatusCode::CREATED,
                &json!({ "id": id(0xac, 1), "secret": "minted-by-the-stand-in" }),
            ),
            ("GET" | "HEAD", path) => {
                let id = path.strip_prefix("/api/v1/users/users/").and_then(|id| id.strip_suffix('/'));
                let is_meant = |user: &&User| {
                    user.org == org(received) && user.json.get("id") == id.map(Value::from).as_ref()
                };
                match self.users.iter().find(is_meant) {
                    Some(user) => Answer::json(StatusCode::OK, &user.json),
                    None => refusal(StatusCode::NOT_FOUND, "not_found", "Not found."),
                }
            }
            _ => refusal(StatusCode::NOT_FOUND, "not_found", "Not found."),
        }
    }

    fn list(&self, received: &Received, query: &str) -> Answer {
        let username = member(query, "username");
        let here = self.users.iter().filter(|user| user.org == org(received));
        let found = here.filter(|user| username.as_ref().is_none_or(|name| *name == user.username));
        page(found.map(|user| user.json.clone()).collect(), received, query)
    }

    fn create(&mut self, received: &Received) -> Answer {
        if !received.all("content-type").iter().any(|kind| kind.starts_with("application/json")) {
            return refusal(StatusCode::BAD_REQUEST, "parse_error", "Missing filename.");
        }
        let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (Some(name), Some(username)) = (text("name"), text("username")) else {
            return refusal(StatusCode::BAD_REQUEST, "invalid", "name and username are required.");
        };
        if self.users.iter().any(|user| user.username == username) {
            return refusal(StatusCode::BAD_REQUEST, "unique", "This username exists.");
        }
        Answer::json(StatusCode::CREATED, &self.add(name, username, org(received)))
    }

    /// Deletes every match, and without a filter all users: JumpServer's bulk delete does the same.
    fn delete(&mut self, received: &Received, query: &str) -> Answer {
        let (username, org) = (member(query, "username"), org(received));
        let matches =
            |user: &User| user.org == org && username.as_ref().is_none_or(|name| *name == user.username);
        self.users.retain(|user| !matches(user));
        Answer { status: StatusCode::NO_CONTENT, location: None, body: String::new() }
    }
}

/// The organisation of a call: an unknown one, or several, silently mean the default.
fn org(received: &Received) -> &'static str {
    if received.all("x-jms-org") == [OTHER_ORG] { OTHER_ORG } else { DEFAULT_ORG }
}

fn current(org: &str) -> Answer {
    let name = if org == OTHER_ORG { "Elsewhere" } else { "Default" };
    let default = org == DEFAULT_ORG;
    Answer::json(StatusCode::OK, &json!({ "id": org, "name": name, "is_default": default, "is_root": false }))
}

/// A page of items, with absolute links to the host of the request; without `limit`, a bare list.
fn page(items: Vec<Value>, received: &Received, query: &str) -> Answer {
    let number = |name: &str| member(query, name).and_then(|text| text.parse::<usize>().ok());
    let Some(limit) = number("limit").filter(|limit| *limit > 0) else {
        return Answer::json(StatusCode::OK, &Value::Array(items));
    };
    let (limit, offset) = (limit.min(MOST), number("offset").unwrap_or(0));
    let path = received.target.split('?').next().unwrap_or_default();
    let host = received.all("host").first().copied().unwrap_or_default().to_owned();
    let link = |offset: usize| {
        let others =
            query.split('&').filter(|pair| !pair.starts_with("limit=") && !pair.starts_with("offset="));
        let mut pairs: Vec<String> = others.filter(|pair| !pair.is_empty()).map(ToOwned::to_owned).collect();
        pairs.push(format!("limit={limit}"));
        pairs.extend((offset > 0).then(|| format!("offset={offset}")));
        format!("http://{host}{path}?{}", pairs.join("&"))
    };
    let count = items.len();
    let next = (offset.saturating_add(limit) < count).then(|| link(offset + limit));
    let previous = (offset > 0).then(|| link(offset.saturating_sub(limit)));
    let results: Vec<Value> = items.into_iter().skip(offset).take(limit).collect();
    Answer::json(
        StatusCode::OK,
        &json!({ "count": count, "next": next, "previous": previous, "results": results }),
    )
}

/// The decoded value of a member of the query.
fn member(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(known, _)| *known == name)?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

fn refusal(status: StatusCode, code: &str, detail: &str) -> Answer {
    Answer::json(status, &json!({ "detail": detail, "code": code }))
}

fn id(kind: u8, number: u64) -> String {
    format!("{kind:02x}1a0000-0000-4000-8000-{number:012}")
}
