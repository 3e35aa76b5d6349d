//! Tests of all known spellings, and of texts that must not be taken for them.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn query_naming(written: &str, name: &str) -> Naming {
    let read = Name::read_query(written.into(), &mut NameReading::default());
    read.map_or(Naming::Part, |read| NamePattern::new(name).naming(&read))
}

fn may_be(value: &str, wanted: &str) -> bool {
    Value::new(value.into()).may_be(&Wanted::new(wanted), |read| read == wanted)
}

#[test]
fn what_servers_do_not_tell_apart_folds_to_one() {
    for spelt in [
        "delete",
        "DELETE",
        "dElEtE",
        "ｄｅｌｅｔｅ",
        "ＤＥＬＥＴＥ",
        "délètê",
        "ⓓⓔⓛⓔⓣⓔ",
        "de\u{200b}lete",
        "\u{feff}delete",
        "de\u{ad}lete",
        "delete\0",
        "del\tete",
        "d\u{301}elete",
    ] {
        assert_eq!(fold(spelt), "delete", "{spelt:?}");
    }
    for (spelt, folded) in [
        ("ſ", "s"),
        ("\u{212a}", "k"),
        ("ﬁ", "fi"),
        ("ß", "ss"),
        ("ẞ", "ss"),
        ("İ", "i"),
        ("ı", "i"),
        ("ΣΑΣ", "σασ"),
        ("σας", "σασ"),
        ("٥", "5"),
        ("𝟓", "5"),
        ("a+b\u{a0}c\u{3000}d", "a b c d"),
        ("Люди", "люди"),
        ("中文", "中文"),
    ] {
        assert_eq!(fold(spelt), folded, "{spelt:?}");
    }
}

#[test]
fn a_name_is_read_in_every_spelling() {
    for same in [
        "action",
        "Action",
        "ACTION",
        "+action",
        "action+",
        "%20action",
        "action%20",
        "%09action",
        "action%00",
        "action%00x",
        "action%0A",
        "action.",
        "action.%20.",
        "%61ction",
        "%2561ction",
        "%252561ction",
        "action[]",
        "action[0]",
        "action%5B%5D",
        "action%5b12%5d",
        "[action]",
        "%5Baction",
        "action.0",
        "%C2%A0action",
        "%E2%80%8Baction",
        "%EF%BB%BFaction",
        "act%E2%80%8Bion",
        "%EF%BD%81ction",
        "%22action%22",
        "%3Faction",
    ] {
        assert_eq!(query_naming(same, "action"), Naming::Same, "{same}");
    }
    for part in
        ["action[x]", "action[$ne]", "action[0][x]", "action.x", "%FFaction", "x%C0", "%252525252561ction"]
    {
        assert_eq!(query_naming(part, "action"), Naming::Part, "{part}");
    }
    for other in
        ["", "a", "actions", "xaction", "action_", "_action", "x[action]", "x.action", "фction", "%E4%B8%AD"]
    {
        assert_eq!(query_naming(other, "action"), Naming::Other, "{other}");
    }
    for same in ["user_id", "userId", "user-id", "user.id", "user+id", "user[id", "USER%5FID", "userid"] {
        assert_eq!(query_naming(same, "user_id"), Naming::Same, "{same}");
        assert_eq!(query_naming(same, "userId"), Naming::Same, "{same}");
    }
}

#[test]
fn a_query_has_a_member_by_every_border() {
    for named in [
        "oid=1",
        "oid",
        "oid=",
        "a=1&oid=2",
        "a=1;oid=2",
        "a?oid=2",
        "?oid=2",
        "a=1%26oid=2",
        "a=1%3Boid%3D2",
        "a=1%2526oid",
        "a=%25252525252525252526oid",
        "OID=1",
        "a=1&&;oid[]=2",
        "a=%26%E2%80%8Boid",
    ] {
        assert!(may_be_named(named, "oid"), "{named}");
    }
    for other in ["", "a=oid", "void=1", "oids=1", "a=b%26c=d", "a=%3Fvoid%3D1", "a=100%25oid"] {
        assert!(!may_be_named(other, "oid"), "{other}");
    }
}

#[test]
fn a_value_is_read_in_every_spelling() {
    for (value, wanted) in [
        ("DELETE", "delete"),
        (" delete\t", "delete"),
        ("delete\0x", "delete"),
        ("delete\nx", "delete"),
        ("delete.. .", "delete"),
        ("%64elete", "delete"),
        ("%2564elete", "delete"),
        ("list,delete", "delete"),
        ("delete;x", "delete"),
        ("[\"delete\"]", "delete"),
        ("'delete'", "delete"),
        ("d\u{fffd}x", "delete"),
        ("5.0", "5"),
        ("05", "5"),
        ("+5", "5"),
        ("5e0", "5"),
        ("0x5", "5"),
        ("-0", "0"),
        ("٥", "5"),
        ("1", "true"),
        ("Yes", "true"),
        ("on", "1"),
        ("0", "false"),
        ("", "true"),
        ("3", "true"),
        ("0.0", "no"),
        ("yes", "1"),
        ("2.0", "0x2"),
        ("on", "yes"),
    ] {
        assert!(may_be(value, wanted), "{value:?} {wanted}");
    }
    for (value, other) in [
        ("deleted", "delete"),
        ("2", "1"),
        ("undelete", "delete"),
        ("de lete", "delete"),
        ("50", "5"),
        ("3", "2"),
        ("3", "1"),
        ("true", "2"),
        ("1", "2"),
        ("2", "0"),
        ("-1", "1"),
        ("3", ""),
    ] {
        assert!(!may_be(value, other), "{value:?} {other}");
    }
}

#[test]
fn a_value_is_read_by_every_border() {
    let values = |query: &str| match Query::read(query) {
        Query::Members(members) => {
            let named = members.into_iter().filter(|member| member.name.written() == "action");
            named.flat_map(|member| member.values).map(|value| value.as_str().to_owned()).collect::<Vec<_>>()
        }
        Query::Unknown(_) => Vec::new(),
    };
    assert_eq!(values("action=x;delete"), ["x", "x;delete"]);
    assert_eq!(values("a&action=x?delete"), ["x", "x?delete"]);
    assert_eq!(values("a=1%26action=x;%64elete"), ["x", "x;delete"]);
    assert_eq!(values("action=x&action=x"), ["x"]);
}

/// Texts that attacks repeat up to the longest target.
const REPEATED: [&str; 11] =
    [";A", "A.&", "%26A", "%2526A", "%2541=&", "%EF%B7%BA", "%EF%B7%BA&", "[a]", "A.", "a=1&", ";"];

#[test]
fn each_name_is_read_once() {
    for unit in REPEATED {
        let query = unit.repeat(8192 / unit.len());
        match Query::read(&query) {
            Query::Members(members) => assert!(members.len() <= 4, "{unit}: {}", members.len()),
            Query::Unknown(_) => assert!(unit.starts_with('%'), "{unit}"),
        }
    }
    let distinct = |count: usize, end: &str| {
        let names: Vec<_> = (0..count).map(|name| format!("a{name}{end}=1")).collect();
        names.join("&")
    };
    // Plain names, and names that differ only in case, are read however many there are.
    for end in ["", "A", "_B", "-c"] {
        let query = distinct(1000, end);
        assert!(matches!(Query::read(&query), Query::Members(members) if members.len() == 1000), "{end}");
        assert!(!may_be_named(&query, "wanted"));
    }
    assert!(matches!(Query::read(&distinct(256, ".x")), Query::Members(_)));
    assert!(matches!(Query::read(&distinct(257, ".x")), Query::Unknown(Unclear::Many)));
    // Long names do not cost much either.
    assert!(matches!(Query::read(&"A.".repeat(5000)), Query::Members(_)));
    assert!(matches!(Query::read(&"A.".repeat(50_000)), Query::Unknown(_)));
    assert!(may_be_named(&distinct(257, ".x"), "wanted"));
}

#[test]
fn a_long_query_costs_little_however_many_names_are_wanted() {
    let wanted: Vec<_> = (0..40).map(|name| NamePattern::new(&format!("*name{name}"))).collect();
    for unit in REPEATED {
        let query = unit.repeat(8192 / unit.len());
        let begun = Instant::now();
        let read = Query::read(&query);
        let found = wanted.iter().filter(|name| read.has(name)).count();
        assert!(found == 0 || matches!(read, Query::Unknown(_)), "{unit}");
        assert!(begun.elapsed() < Duration::from_millis(500), "{unit}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_path_is_read_in_every_spelling() {
    let read = |path: &str| match paths(path) {
        Paths::Plain(path) => vec![path.to_owned()],
        Paths::Any(paths) => paths,
        Paths::Unknown => Vec::new(),
    };
    for path in [
        "/api/users",
        "/api/users/",
        "/api/Users",
        "/API/USERS/",
        "/api/users%20/",
        "/api/users./",
        "/api/users.%20.",
        "/api/%20users",
        "/api/users%3Bx/",
        "/api%3Ba/users",
        "/api/users%2500",
        "/api/%2575sers",
        "/api%252Fusers",
        "/api/x%255C..%255Cusers",
        "/api/%252e%252e/api/users",
        "/api/x/..%20/users",
        "/api/%20/users",
        "/api/users%253Fx",
        "/api/users%3Fx",
        "/api/users%2523x/y",
        "/api/%EF%BD%95sers",
        "/api/u%C5%BFers",
        "/api/us%E2%80%8Bers",
        "/api/users%C2%A0",
        "/api/users%C2%85",
        "/api/u%25FFsers",
    ] {
        assert!(read(path).iter().any(|read| read == "api/users"), "{path}: {:?}", read(path));
    }
    for path in
        ["/api/users/x", "/api/user", "/api/v1/users", "/api/users%20x", "/api/users~", "/api/us%20ers"]
    {
        assert!(!read(path).iter().any(|read| read == "api/users"), "{path}: {:?}", read(path));
    }
    assert!(matches!(paths("/api/users-2/a_b/x.json"), Paths::Plain("api/users-2/a_b/x.json")));
    assert!(matches!(paths("/a%2525252525"), Paths::Unknown));
}

#[test]
fn blank_is_whatever_may_be_read_as_nothing() {
    for blank in [
        "", " ", "\t\n", "\u{a0}", "\0", " \0x", "\u{200b}", "%20", "%2520", ",", " , ", "\"\"", "[]",
        "\u{fffd}", "%00x",
    ] {
        assert!(is_blank(blank), "{blank:?}");
    }
    for text in ["a", " a", "0", "a,", "中", "a\0", "%41"] {
        assert!(!is_blank(text), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
        let once = fold(&text).into_owned();
        prop_assert_eq!(fold(&once).into_owned(), once);
    }

    #[test]
    fn what_is_plain_is_read_in_no_other_way(path in "/[a-z0-9/_.-]{0,20}") {
        prop_assume!(!path.contains("//") && !path.contains("/."));
        if let Paths::Plain(plain) = paths(&path) {
            let segments: Vec<&str> = plain.split('/').collect();
            let resolved = resolve(segments.iter().copied());
            prop_assert_eq!(resolved.join("/"), plain);
            prop_assert!(segments.iter().all(|segment| trim(&fold(segment)) == *segment));
        }
    }
}
