//! Links in answers: a body stays what it was but for the links, and no header becomes another.

use std::fmt;

use bytes::Bytes;
use claviger::origin::Origin;
use claviger::transport::link_rewrite::{LinkRewriter, PublicUrl};
use http::header::{HeaderMap, HeaderValue, LINK, LOCATION};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

const FACE: PublicUrl<'static> = PublicUrl { tls: false, host: "gw:7070", prefix: "/p" };

/// The first byte says where the text is torn, for what comes later streams by unread.
pub fn body(input: &[u8]) {
    let Some((place, text)) = input.split_first() else { return };
    let origins = vec![Origin::split("https://jms.example.com").unwrap().0];
    let links =
        LinkRewriter { members: vec!["next".into(), "previous".into()], origins, base: "/jms".into() };
    let cut = usize::from(*place) * text.len() / 256;
    json(&links, text, text.len());
    json(&links, text, cut);
    headers(&links, text);
}

fn json(links: &LinkRewriter, text: &[u8], cut: usize) {
    let (held, later) = text.split_at(cut);
    let front = links.rewrite_text(Bytes::copy_from_slice(held), FACE);
    let out = [&front[..], later].concat();
    let valid = serde_json::from_slice::<Value>(text).is_ok();
    assert_eq!(serde_json::from_slice::<Value>(&out).is_ok(), valid, "JSON if and only if it was");
    let Ok(Object(before)) = serde_json::from_slice::<Object>(text) else {
        return assert!(!valid || out == text, "what is no object has no members");
    };
    let Object(after) = serde_json::from_slice::<Object>(&out).unwrap();
    assert_eq!(before.len(), after.len());
    let mut changes = Vec::new();
    for ((name, old), (same, new)) in before.iter().zip(&after) {
        assert_eq!(name, same);
        let led = old
            .as_str()
            .filter(|_| links.members.contains(name))
            .and_then(|link| links.rewrite_link(link, FACE));
        if old != new {
            assert_eq!(new.as_str(), led.as_deref(), "{name} became something else");
            changes.push(serde_json::to_string(new).unwrap());
        }
        let named = |wanted: &str| before.iter().filter(|(name, _)| name == wanted).count() < 2;
        let once = links.members.iter().all(|member| named(member));
        assert!(
            cut < text.len() || !once || led.is_none() || new.as_str() == led.as_deref(),
            "{name} leads past us"
        );
    }
    only_these_changed(text, &out, &changes);
}

/// Checks that `out` is `text` but for strings, which became `changes` in this order.
fn only_these_changed(mut text: &[u8], mut out: &[u8], changes: &[String]) {
    for change in changes {
        let found = out.windows(change.len()).enumerate().filter(|(_, window)| *window == change.as_bytes());
        let at = found
            .map(|(at, _)| at)
            .find(|at| text.get(..*at) == Some(&out[..*at]) && text[*at..] != out[*at..]);
        // The same text may stand somewhere before; then the first difference is within the later one.
        let at = at.expect("the change is there, and all before it is as it was");
        let differs = text.iter().zip(out).position(|(old, new)| old != new).unwrap_or(at);
        let at = (at..=differs).rev().find(|at| out[*at..].starts_with(change.as_bytes())).unwrap_or(at);
        out = &out[at + change.len()..];
        text = &text[at + string_len(&text[at..])..];
    }
    assert_eq!(text, out, "all else is as it was");
}

/// The length of the JSON string at the start of `text`.
fn string_len(text: &[u8]) -> usize {
    assert_eq!(text[0], b'"');
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    panic!("a string without an end")
}

fn headers(links: &LinkRewriter, text: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(text) else { return };
    let mut map = HeaderMap::new();
    map.insert(LOCATION, value.clone());
    map.append(LINK, value.clone());
    links.rewrite_headers(&mut map, FACE);
    assert_eq!(map.len(), 2);
    assert_eq!(outside(map[LINK].as_bytes()), outside(text), "only what stands in brackets is a link");
    let once = map.clone();
    links.rewrite_headers(&mut map, FACE);
    assert_eq!(map, once, "what leads to us is left alone");
    if let Ok(link) = std::str::from_utf8(text)
        && let Some(new) = links.rewrite_link(link, FACE)
    {
        assert!(new.starts_with("http://gw:7070/p"));
        assert_eq!(links.rewrite_link(&new, FACE), None);
    }
}

/// The text without what stands in brackets.
fn outside(text: &[u8]) -> Vec<u8> {
    let mut inside = false;
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'>' => inside = false,
            b'<' if !inside && text[at..].contains(&b'>') => {
                out.push(b'<');
                inside = true;
                continue;
            }
            _ => {}
        }
        if !inside {
            out.push(*byte);
        }
    }
    out
}

/// Every member of an object, in order, also where a name is there twice.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
