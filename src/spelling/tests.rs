//! Every spelling that a test knows, and what must not be taken for one.

use super::*;
use proptest::prelude::*;

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
    let has =
        |value: &str, wanted: &str| values(value).is_none_or(|all| all.iter().any(|read| read == wanted));
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
    ] {
        assert!(has(value, wanted), "{value:?} {wanted}");
    }
    for (value, other) in
        [("deleted", "delete"), ("2", "1"), ("undelete", "delete"), ("de lete", "delete"), ("50", "5")]
    {
        assert!(!has(value, other), "{value:?} {other}");
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
