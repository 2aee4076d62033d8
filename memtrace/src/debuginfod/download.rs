//! One file from one server, by HTTP: bounded in bytes and in time, received into the cache, and checked before it is kept.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use ureq::{
    Agent,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{Fetched, Options, WrongFile, cache::Cache, check};
use crate::object::bounds::read_at_most;

/// A name is looked up, and a connection made, in this time.
const CONNECT: Duration = Duration::from_secs(10);
/// A server may send the client on, as load balancers do.
const MAX_REDIRECTS: u32 = 5;
/// How much is read in one go.
const PIECE_BYTES: usize = 64 << 10;
/// The largest file of certificates that is read; systems have a quarter of a megabyte of them.
const MAX_CERTIFICATE_BYTES: u64 = 8 << 20;

/// Where distributions keep the certificates that the administrator trusts: Debian and Arch, Fedora, SUSE, Alpine.
const CERTIFICATES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Why a file has not come from a server. It completes a sentence that begins with the server's address.
#[derive(Debug, Error)]
pub enum DownloadError {
    /// No connection, or one that broke.
    #[error("gave no debug file: {0}")]
    Failed(String),
    /// Nothing came, or not all.
    #[error("was too slow: it sent no debug file in time")]
    Slow,
    /// An answer that is neither the file nor that there is none.
    #[error("gave no debug file but the HTTP status {0}")]
    Status(u16),
    /// More than we take.
    #[error("has a debug file of more than {0} bytes, which is not taken")]
    TooLarge(u64),
    /// A file that is not the one.
    #[error("sent a file {0}")]
    Wrong(#[from] WrongFile),
    /// Our own disk, not the server's.
    #[error("was asked for a debug file that cannot be kept: {0}")]
    Kept(io::Error),
}

impl From<ureq::Error> for DownloadError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Slow,
            // Without the word `io` before it.
            ureq::Error::Io(error) => Self::Failed(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Fetches files; its copies end together.
#[derive(Clone)]
pub struct Download {
    agent: Agent,
    most_bytes: u64,
    ends: Arc<AtomicBool>,
}

impl Download {
    /// Connects to nothing yet; once `ends` is true, what is still being received is given up.
    pub fn new(options: &Options, ends: Arc<AtomicBool>) -> Self {
        // Certificates are not read for servers that need none.
        let is_tls = options.servers.iter().any(|server| server.starts_with("https:"));
        let roots = is_tls.then(trusted).flatten().unwrap_or(RootCerts::WebPki);
        let config = Agent::config_builder()
            .user_agent(concat!("memtrace/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(options.patience))
            .timeout_per_write(Some(options.patience))
            .timeout_global(Some(options.longest))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        Self { agent: config.build().new_agent(), most_bytes: options.most_bytes, ends }
    }

    /// Ends what is being received, in whatever thread.
    pub fn stop(self) {
        self.agent.shutdown();
    }

    /// Whether files are given up because the run ends.
    pub fn is_stopped(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// The debug file of a build id, which is also given in hexadecimal, from a server, kept in the cache; `None` when the server
    /// has none.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or with anything else than the debug file of this build.
    pub fn fetch(
        &self,
        server: &str,
        id: &str,
        build_id: &[u8],
        cache: &Cache,
    ) -> Result<Option<Fetched>, DownloadError> {
        let request = self.agent.get(format!("{server}/buildid/{id}/debuginfo"));
        // What is asked in secret is not sent on in the open.
        let is_secret = server.starts_with("https:");
        let response = request.config().https_only(is_secret).build().call()?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            status => return Err(DownloadError::Status(status)),
        }
        let body = response.into_body();
        if body.content_length().is_some_and(|bytes| bytes > self.most_bytes) {
            return Err(DownloadError::TooLarge(self.most_bytes));
        }
        let part = cache.begin(id).map_err(DownloadError::Kept)?;
        self.receive(body, &part.file)?;
        let file = part.file.try_clone().map_err(DownloadError::Kept)?;
        let fetched = check(file, build_id)?;
        part.keep().map_err(DownloadError::Kept)?;
        Ok(Some(fetched))
    }

    fn receive(&self, body: ureq::Body, mut file: &File) -> Result<(), DownloadError> {
        // One byte more than we take tells a file that is too large.
        let mut reader = body.into_reader().take(self.most_bytes.saturating_add(1));
        let mut piece = vec![0; PIECE_BYTES];
        let mut received = 0;
        while !self.is_stopped() {
            let bytes = match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(ureq::Error::from(error).into()),
            };
            received += bytes as u64;
            if received > self.most_bytes {
                return Err(DownloadError::TooLarge(self.most_bytes));
            }
            file.write_all(&piece[..bytes]).map_err(DownloadError::Kept)?;
        }
        Ok(())
    }
}

/// The certificates that this system trusts; `None` when it has none where we look. Then those that Mozilla's browser trusts are taken,
/// which are compiled in.
fn trusted() -> Option<RootCerts> {
    let named = std::env::var_os("SSL_CERT_FILE");
    let paths = named.iter().map(Path::new).chain(CERTIFICATES.iter().map(Path::new));
    paths.filter_map(|path| read_at_most(path, MAX_CERTIFICATE_BYTES).ok()).find_map(|text| {
        let items = parse_pem(&text).filter_map(Result::ok);
        let certificates: Vec<Certificate<'static>> =
            items.filter_map(|item| if let PemItem::Certificate(found) = item { Some(found) } else { None }).collect();
        (!certificates.is_empty()).then(|| RootCerts::new_with_certs(&certificates))
    })
}
