//! Tests of the stand-in's answers, besides those that the tour shows.

use super::*;

fn answer(accounts: &mut Accounts, method: &str, target: &str, body: &str) -> (u16, String) {
    let lines = vec![("Host".into(), "jms.test".into()), ("Content-Type".into(), "application/json".into())];
    let (method, target, body) = (method.to_owned(), target.to_owned(), body.as_bytes().to_vec());
    let answer = accounts.answer(&Received { method, target, lines, body, ..Received::default() });
    (answer.status.as_u16(), answer.location.unwrap_or(answer.body))
}

#[test]
fn answers_as_jumpserver_does() {
    let mut accounts = Accounts::new();
    let mut answer = |method: &str, target: &str, body: &str| answer(&mut accounts, method, target, body);
    assert_eq!(answer("POST", "/api/v1/users/users?a=b", "{}"), (301, "/api/v1/users/users/?a=b".into()));
    let (_, body) = answer("GET", "/api/v1/users/users/?limit=2&offset=2&x=%C3%A9", "");
    assert!(
        body.contains(r#""count":5,"next":"http://jms.test/api/v1/users/users/?x=%C3%A9&limit=2&offset=4""#),
        "{body}"
    );
    assert!(body.contains(r#""previous":"http://jms.test/api/v1/users/users/?x=%C3%A9&limit=2""#), "{body}");
    assert!(answer("GET", "/api/v1/users/users/", "").1.starts_with("[{"), "a bare list");
    assert!(answer("GET", "/api/v1/users/users/?limit=9&username=g%72ace", "").1.contains(r#""count":1"#));
    let new = r#"{"name":"New","username":"new"}"#;
    assert_eq!(answer("POST", "/api/v1/users/users/", new).0, 201);
    assert_eq!(answer("POST", "/api/v1/users/users/", new).0, 400, "it is there already");
    assert_eq!(answer("DELETE", "/api/v1/users/users/?username=nobody", "").0, 204, "also for none");
    assert!(answer("GET", "/api/v1/users/users/?limit=1", "").1.contains(r#""count":6"#));
    assert_eq!(answer("DELETE", "/api/v1/users/users/", "").0, 204);
    assert!(answer("GET", "/api/v1/users/users/?limit=1", "").1.contains(r#""count":0"#), "everyone");
    assert_eq!(answer("GET", "/api/v1/nowhere/", "").0, 404);
}

#[test]
fn what_is_not_signed_is_refused() {
    let mut accounts = Accounts::new();
    let unsigned = Some("wrong signature".to_owned());
    let target = "/api/v1/users/users/".to_owned();
    let received = Received { method: "GET".into(), target, unsigned, ..Received::default() };
    let answer = accounts.answer(&received);
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let written = String::from_utf8_lossy(&encode_response(&received, &answer)).into_owned();
    assert!(
        written.contains("\r\nSet-Cookie: ") && written.contains("\r\nWWW-Authenticate: Signature "),
        "{written}"
    );
    assert!(
        written.ends_with(
            r#"{"code":"authentication_failed","detail":"Incorrect authentication credentials."}"#
        )
    );
}

#[test]
fn a_chunked_body_ends_the_connection() {
    let mut bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".as_slice();
    assert!(read(&mut bytes).is_ok_and(|read| read.is_none()));
    let mut bytes = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET".as_slice();
    assert!(read(&mut bytes).is_ok_and(|read| read.is_some_and(|received| received.body == b"hi")));
    assert_eq!(bytes, b"GET");
}
