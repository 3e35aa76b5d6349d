//! A `ca_file` with an upstream's own certificate, as `openssl req -x509` makes it: claviger trusts exactly
//! this certificate. And upstreams that require a client certificate of the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::support::ledger::{ANSWERED, Ledger, failed, request};
use crate::support::tls::{Authority, serving};
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, World};

const HOST: &str = "127.0.0.1";
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A certificate and its parameters.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(authority: bool, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    change(&mut params);
    params
}

/// A self-signed certificate.
fn self_signed(authority: bool, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let (params, key) = (params(authority, change), KeyPair::generate().unwrap());
    let pem = params.self_signed(&key).unwrap().pem();
    Made { params, key, pem }
}

/// A certificate that `issuer` has signed.
fn signed_by(issuer: &Made, authority: bool) -> Made {
    let (params, key) = (params(authority, |_| {}), KeyPair::generate().unwrap());
    let signer = Issuer::new(issuer.params.clone(), KeyPair::from_pem(&issuer.key.serialize_pem()).unwrap());
    let pem = params.signed_by(&key, &signer).unwrap().pem();
    Made { params, key, pem }
}

/// An upstream that presents `shown` and signs with `key`.
fn upstream(
    shown: &Made,
    key: &KeyPair,
    version: &'static SupportedProtocolVersion,
) -> (SocketAddr, Arc<Mutex<String>>) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).unwrap()];
    let builder = ServerConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
    let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    serving(Arc::new(builder.with_cert_resolver(Arc::new(resolver))))
}

/// A gateway for it that trusts the certificates in `file`.
fn before(address: SocketAddr, file: &Path) -> World {
    let ca = format!("credential = \"key\"\nca_file = \"{}\"", file.display());
    let endpoint = format!("https://{HOST}:{}", address.port());
    let config = CONFIG.replace("http://@UPSTREAM@", &endpoint).replacen("credential = \"key\"", &ca, 1);
    World::with(Upstream::ok(), &config)
}

fn in_file(folder: &tempfile::TempDir, certificates: &[&Made]) -> PathBuf {
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, certificates.iter().map(|made| made.pem.as_str()).collect::<String>()).unwrap();
    path
}

#[test]
fn an_upstream_that_shows_a_certificate_of_the_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = self_signed(true, |_| {});
    for (name, shown) in [
        ("as openssl makes it", self_signed(true, |_| {})),
        ("no authority's", self_signed(false, |_| {})),
        ("signed by an authority that is not in the file", signed_by(&elsewhere, false)),
        ("the same of an authority below it", signed_by(&elsewhere, true)),
    ] {
        let other = self_signed(true, |_| {});
        for file in [&[&shown][..], &[&other, &shown]] {
            for version in VERSIONS {
                let (address, _) = upstream(&shown, &shown.key, version);
                let mut ledger = Ledger::new(before(address, &in_file(&folder, file)));
                let answer = ledger.world.get("/api/", "");
                ledger.note(name, &answer, 200, ANSWERED);
                ledger.check();
            }
        }
    }
}

#[test]
fn an_authority_of_the_file_still_signs_others() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), self_signed(true, |_| {}));
    let shown = signed_by(&authority, false);
    let (address, _) = upstream(&shown, &shown.key, VERSIONS[1]);
    let mut ledger = Ledger::new(before(address, &in_file(&folder, &[&authority])));
    let answer = ledger.world.get("/api/", "");
    ledger.note("signed", &answer, 200, ANSWERED);
    ledger.check();
}

#[test]
fn nothing_but_that_certificate_is_trusted_and_it_only_in_its_time_and_for_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let names = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        move |params: &mut CertificateParams| {
            params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        }
    };
    let (sound, leaf) = (self_signed(true, |_| {}), self_signed(false, |_| {}));
    let again = |made: &Made| {
        let mut params = made.params.clone();
        params.serial_number = Some(SerialNumber::from(7_u64));
        let key = KeyPair::from_pem(&made.key.serialize_pem()).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Made { params, key, pem }
    };
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(2999, 1, 1);
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    let kept = |made: Made| (made, None);
    for (name, (shown, file), why) in [
        ("expired", kept(self_signed(true, expired)), "its certificate expired 2020-01-01"),
        ("expired, no authority's", kept(self_signed(false, expired)), "its certificate expired 2020-01-01"),
        ("not yet", kept(self_signed(true, early)), "its certificate is not valid before 2999-01-01"),
        ("another address", kept(self_signed(true, names(&["127.0.0.2"]))), "not for 127.0.0.1, but for"),
        ("another host", kept(self_signed(false, names(&["jms.test"]))), "not for 127.0.0.1, but for"),
        ("no name", kept(self_signed(true, names(&[]))), "names no host (subjectAltName)"),
        ("for consumers only", kept(self_signed(false, for_clients)), "is not for servers"),
        ("renewed with the same key", (again(&sound), Some(&sound)), "an authority's (CA:TRUE)"),
        ("renewed, no authority's", (again(&leaf), Some(&leaf)), "no trusted authority has signed"),
        (
            "signed by one that is no authority",
            (signed_by(&leaf, false), Some(&leaf)),
            "no trusted authority",
        ),
        ("an authority below it", (signed_by(&sound, true), Some(&sound)), "an authority's (CA:TRUE)"),
    ] {
        let file = in_file(&folder, &[file.unwrap_or(&shown)]);
        for version in VERSIONS {
            let (address, heard) = upstream(&shown, &shown.key, version);
            let mut ledger = Ledger::new(before(address, &file));
            let answer = ledger.world.get("/api/", "");
            ledger.note(name, &answer, 502, failed("upstream_tls"));
            let reason = ledger.check()[0]["reason"].as_str().unwrap().to_owned();
            assert!(reason.contains(why), "{name}: {reason}");
            assert_eq!(*heard.lock().unwrap(), "", "{name}");
        }
    }
}

#[test]
fn who_has_the_certificate_and_not_its_key_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for authority in [true, false] {
        let shown = self_signed(authority, |_| {});
        for version in VERSIONS {
            let (address, heard) = upstream(&shown, &KeyPair::generate().unwrap(), version);
            let mut ledger = Ledger::new(before(address, &in_file(&folder, &[&shown])));
            let answer = ledger.world.get("/api/", "");
            ledger.note("another key", &answer, 502, failed("upstream_tls"));
            ledger.check();
            assert_eq!(*heard.lock().unwrap(), "");
        }
    }
}

/// In TLS 1.3 the refusal arrives after the handshake, at the call that waits for the answer.
#[test]
fn an_upstream_that_wants_a_client_certificate_is_named_as_such_and_asked_once() {
    let authority = Authority::new();
    let pair = authority.issue(HOST, |_| {});
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.pem).unwrap()).unwrap();
    for version in VERSIONS {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(&provider));
        let builder =
            ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let config = builder
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&pair.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
            )
            .unwrap();
        let (address, heard) = serving(Arc::new(config));
        let mut ledger = Ledger::new(before(address, &authority.pem));
        for (method, size) in [("GET", 0), ("HEAD", 0), ("POST", 2), ("POST", 200_000)] {
            let lines = format!("Content-Length: {size}\r\nConnection: close\r\n");
            let mut raw = ledger.world.connect();
            raw.send(request(method, "/api/", &lines) + &"x".repeat(size));
            let answer = raw.answer();
            let fate = failed("upstream_tls");
            if method == "HEAD" {
                ledger.note_head(method, &answer, 502, fate);
            } else {
                ledger.note(method, &answer, 502, fate);
            }
        }
        for outcome in ledger.check() {
            let reason = outcome["reason"].as_str().unwrap();
            assert!(reason.contains("wants a client certificate"), "{version:?}: {reason}");
            assert!(outcome["attempts"].as_u64().unwrap() < 2, "{version:?}: {outcome}");
        }
        assert_eq!(*heard.lock().unwrap(), "");
    }
}
