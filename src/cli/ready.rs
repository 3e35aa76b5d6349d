//! `claviger ready`: queries `/readyz` of a running gateway.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{Output, eprint, print};
use crate::config;
use crate::config::file::Tls;
use crate::fs::trust::TrustedOwner;
use crate::tls::own_client;

/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Queries the gateway; returns whether it is ready.
pub(super) fn run(path: &Path, output: Output) -> anyhow::Result<bool> {
    let file = config::load(path)?.checked()?;
    let address = reachable(file.admin.address.value);
    let owner = TrustedOwner::of(&file.state_dir.value);
    let answer = match &file.admin.tls {
        None => connect(address).and_then(|socket| ask(socket, address)).map_err(anyhow::Error::from),
        Some(tls) => ask_encrypted(tls, owner, address),
    };
    let answer = answer.with_context(|| format!("no answer from the admin listener at {address}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let is_ready = head.split(' ').nth(1) == Some("200");
    let readiness: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match output {
        Output::Json => print(body),
        Output::Text if is_ready => {
            let unreachable = texts(&readiness, "unreachable")
                .map(|name| format!("  {name}: none of its endpoints answers\n"));
            let logins = texts(&readiness, "logins").map(|reason| format!("  {reason}\n"));
            print(&format!("ready\n{}", unreachable.chain(logins).collect::<String>()));
        }
        Output::Text => {
            let reasons = texts(&readiness, "reasons").map(|reason| format!("  {reason}\n"));
            eprint(&format!("not ready\n{}", reasons.collect::<String>()));
        }
    }
    Ok(is_ready)
}

fn texts<'a>(readiness: &'a serde_json::Value, member: &str) -> impl Iterator<Item = &'a str> {
    let list = readiness.get(member).and_then(|list| list.as_array());
    list.into_iter().flatten().filter_map(|text| text.as_str())
}

/// The address to query: for a listener on all addresses, the loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Queries a TLS listener, which must present exactly the certificate that the file names. If it requires a client
/// certificate, claviger presents the same one.
fn ask_encrypted(tls: &Tls, owner: TrustedOwner, address: SocketAddr) -> anyhow::Result<String> {
    let cert = &tls.cert.value;
    let key = tls.client_ca.as_ref().map(|_| config::read_secret_file(&tls.key.value, owner));
    let key = key.transpose().map_err(|ill| anyhow::anyhow!("{ill}"))?;
    let settings = own_client(cert, key.as_ref()).with_context(|| cert.display().to_string())?;
    let session = ClientConnection::new(settings, ServerName::IpAddress(address.ip().into()))?;
    let answer = ask(StreamOwned::new(session, connect(address)?), address);
    answer.with_context(|| format!("the gateway must present the certificate in {}", cert.display()))
}

fn ask(mut socket: impl Read + Write, address: SocketAddr) -> std::io::Result<String> {
    write!(socket, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    match socket.read_to_string(&mut answer) {
        // Without a TLS close notification, the answer is either complete or not an answer at all.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        Ok(_) | Err(_) => Ok(answer),
    }
}
