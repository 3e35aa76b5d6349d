//! Certificates that a test makes, an upstream with TLS, and a consumer with TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, World};

/// A certificate authority and the folder of its certificates.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: PathBuf,
}

/// A certificate's file and its key's.
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = written(folder.path(), "ca.crt", &params.self_signed(&key).unwrap().pem());
        Self { folder, issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate for `name`, after a change of its parameters.
    pub fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        self.pair(&cert, &key)
    }

    /// A self-signed certificate.
    pub fn stranger(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        self.pair(&cert.pem(), &key)
    }

    /// Signs another authority's certificate.
    pub fn sign(&self, params: &CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// A certificate for these names from another issuer; the pair is stored here.
    pub fn issue_by(&self, issuer: &Issuer<'static, KeyPair>, names: Vec<String>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap().pem();
        self.pair(&cert, &key)
    }

    fn pair(&self, cert: &str, key: &KeyPair) -> Pair {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let cert = written(self.folder.path(), &format!("{number}.crt"), cert);
        let key = written(self.folder.path(), &format!("{number}.key"), &key.serialize_pem());
        Pair { cert, key }
    }
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An upstream with TLS; returns its address, and the decrypted bytes that it received.
pub fn encrypted_upstream(pair: &Pair) -> (SocketAddr, Arc<Mutex<String>>) {
    let key = claviger::secret::Secret::new(std::fs::read(&pair.key).unwrap());
    serving(claviger::tls::server_config(&pair.cert, &key, None, false).unwrap())
}

/// An upstream with TLS and the given settings.
pub fn serving(config: Arc<ServerConfig>) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let record = Arc::clone(&heard);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, socket.unwrap());
            let mut bytes = [0; 16384];
            // A gateway that refuses the certificate disconnects here.
            let Ok(read) = stream.read(&mut bytes) else { continue };
            record.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").unwrap();
        }
    });
    (address, heard)
}

/// A gateway for `https://…` that trusts only this authority.
pub fn before(address: SocketAddr, host: &str, authority: &Authority) -> World {
    let ca = format!("credential = \"key\"\nca_file = \"{}\"", authority.pem.display());
    let endpoint = format!("https://{host}:{}", address.port());
    let config = CONFIG.replace("http://@UPSTREAM@", &endpoint).replacen("credential = \"key\"", &ca, 1);
    World::with(Upstream::ok(), &config)
}

/// A gateway with a TLS listener, with further members of its `tls`.
pub fn behind(authority: &Authority, more: &str, config: &str) -> World {
    let pair = authority.issue("gw.test", |_| {});
    let tls =
        format!("tls = {{ cert = \"{}\", key = \"{}\"{more} }}", pair.cert.display(), pair.key.display());
    World::with(
        Upstream::ok(),
        &config.replace("address = \"127.0.0.1:0\"", &format!("address = \"127.0.0.1:0\"\n{tls}")),
    )
}

pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// A consumer's TLS connection, with or without a client certificate.
pub fn consumer(world: &World, authority: &Authority, own: Option<&Pair>) -> Encrypted {
    consumer_of(world.address(), authority, own)
}

pub fn consumer_of(address: SocketAddr, authority: &Authority, own: Option<&Pair>) -> Encrypted {
    speaking(b"http/1.1", address, authority, own)
}

/// A consumer's TLS connection that offers one protocol.
pub fn speaking(
    protocol: &[u8],
    address: SocketAddr,
    authority: &Authority,
    own: Option<&Pair>,
) -> Encrypted {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.cert).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("gw.test").unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    StreamOwned::new(connection, socket)
}

/// Sends, and reads until the connection ends; returns how it ended.
pub fn said(stream: &mut Encrypted, bytes: &str) -> (String, std::io::Result<usize>) {
    let mut text = Vec::new();
    let ended = stream.write_all(bytes.as_bytes()).and_then(|()| stream.read_to_end(&mut text));
    (String::from_utf8_lossy(&text).into_owned(), ended)
}
