//! The address of a sink on the network, and connecting to it.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::origin::Origin;
use crate::secret::Secret;
use crate::tls;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The address of a sink on the network, and how it is used.
#[derive(Clone)]
pub struct Remote {
    /// Host and port, and whether the connection uses TLS.
    pub origin: Origin,
    /// Path and query of the URL, for HTTP only.
    pub path: String,
    /// The TLS client settings.
    pub tls: Arc<ClientConfig>,
    /// The bearer token, for HTTP only.
    pub token: Option<Arc<Secret>>,
}

impl Remote {
    /// Connects to the sink, with TLS if the origin requires it. `prepare` gets the socket first.
    pub(super) async fn connect(
        &self,
        prepare: impl FnOnce(&TcpStream) -> io::Result<()>,
    ) -> Result<Box<dyn Stream>, String> {
        let origin = &self.origin;
        let message = |error: io::Error| {
            let why = tls::reason(&error).unwrap_or_else(|| error.to_string());
            format!("{}: {why}", origin.authority())
        };
        let tcp = TcpStream::connect((origin.host.as_str(), origin.port)).await.map_err(message)?;
        prepare(&tcp).map_err(message)?;
        if !origin.tls {
            return Ok(Box::new(tcp));
        }
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, tcp).await.map_err(message)?))
    }
}
