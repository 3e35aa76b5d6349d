//! What consumers send as a signature: refused, or read as what it says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::signature::{Algorithm, Part, Presented, Unreadable};

pub fn body(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let any = written(text, Algorithm::HmacSha512, &["(request-target)", "date"], input);
    let read = Presented::parse(&any).unwrap();
    assert_eq!((read.key_id.as_str(), read.signature()), (text, input), "any text can be quoted");
    let read = match Presented::parse(text) {
        Ok(read) => read,
        Err(why) => return assert!(!why.as_str().is_empty()),
    };
    let names: Vec<&str> = read.parts.iter().map(Part::as_str).collect();
    assert!(names.contains(&"(request-target)") && names.contains(&"date"));
    for name in &names {
        assert_eq!(name.to_ascii_lowercase(), *name);
    }

    let written = written(&read.key_id, read.algorithm, &names, read.signature());
    let again = Presented::parse(&written).unwrap_or_else(|why| panic!("{written}: {why:?}"));
    assert_eq!(again.key_id, read.key_id);
    assert_eq!((again.algorithm, &again.parts), (read.algorithm, &read.parts));
    assert_eq!(again.signature(), read.signature());

    // What means something is there once, and what means nothing changes nothing.
    let twice = format!("{written},SIGNATURE=\"AAAA\"");
    assert_eq!(Presented::parse(&twice).map(|_| ()), Err(Unreadable::Twice));
    let more = format!("created=1 , {written}, ,x=\"keyId=\\\"k\\\"\"");
    assert_eq!(Presented::parse(&more).unwrap().key_id, read.key_id);
    let unknown = written.replacen(read.algorithm.as_str(), "hs2019", 1);
    if !read.key_id.contains(read.algorithm.as_str()) {
        assert_eq!(Presented::parse(&unknown).map(|_| ()), Err(Unreadable::Algorithm));
    }
    assert!(Algorithm::ALL.contains(&read.algorithm));
}

fn written(key_id: &str, algorithm: Algorithm, names: &[&str], signature: &[u8]) -> String {
    format!(
        "keyId=\"{}\",algorithm=\"{}\",headers=\"{}\",signature=\"{}\"",
        key_id.replace('\\', "\\\\").replace('"', "\\\""),
        algorithm.as_str(),
        names.join(" "),
        STANDARD.encode(signature),
    )
}
