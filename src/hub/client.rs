//! Requests to the hub: who gets the token, which redirections are followed,
//! what is said where it refuses.

use std::io::Read;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::uri::{Authority, PathAndQuery, Scheme};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::name::is_commit;
use super::{Hub, ModelName};
use crate::error::ErrorKind;
use crate::{Error, Result};

/// Most redirections that are followed.
const REDIRECTIONS: usize = 6;

/// Most bytes of a listing: a million files.
const LISTING_BYTES: u64 = 64 << 20;

/// Longest patience: a day. What is added to a time has to stay one.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Letters of a path's part that stay as they are, as in Python's `quote`.
const PART: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PATH: &AsciiSet = &PART.remove(b'/');

/// A model on the hub.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    name: &'a ModelName,
    agent: Agent,
    endpoint: Uri,
}

/// The files of a commit.
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// What the hub says of a file.
pub(super) struct Metadata {
    /// Names the contents, and is their checksum.
    pub etag: String,
    pub bytes: Option<u64>,
}

impl<'a> Client<'a> {
    /// # Errors
    /// If the address is none, or the token cannot be one.
    pub fn new(hub: &'a Hub, name: &'a ModelName) -> Result<Self> {
        let endpoint = hub.endpoint.parse::<Uri>().ok();
        let whole = |uri: &Uri| {
            let scheme = uri.scheme_str().unwrap_or_default();
            matches!(scheme, "http" | "https") && uri.host().is_some()
        };
        let endpoint = endpoint.filter(whole).ok_or_else(|| {
            let own = &hub.endpoint;
            Error::Input(format!(
                "HF_ENDPOINT {own:?} is no address, as https://huggingface.co is"
            ))
        })?;
        let odd = |token: &String| !token.bytes().all(|b| b.is_ascii_graphic());
        if hub.token.as_ref().is_some_and(odd) {
            let problem = "the token (HF_TOKEN, or the file of `hf auth login`) has characters \
                           that no token has";
            return Err(Error::Input(problem.into()));
        }
        let patience = Some(hub.patience.min(PATIENCE));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .user_agent(concat!("sonograd/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .build()
            .new_agent();
        Ok(Self {
            hub,
            name,
            agent,
            endpoint,
        })
    }

    /// The files of a revision, and its commit.
    ///
    /// # Errors
    /// If there is no such model or revision, or the hub cannot be reached.
    pub fn listing(&self, revision: &str) -> Result<Listing> {
        let uri = format!(
            "{}/api/models/{}/revision/{}",
            self.hub.endpoint,
            self.name.id(),
            utf8_percent_encode(revision, PART)
        );
        let mut response = self.get(&uri, None)?;
        self.check(&response, None)?;
        let body = response.body_mut().with_config().limit(LISTING_BYTES);
        let bytes = body.read_to_vec().map_err(|e| self.unreached(e))?;
        let listing = parsed(&bytes);
        listing.ok_or_else(|| self.problem("does not answer as a hub does"))
    }

    /// The contents' name and length.
    ///
    /// # Errors
    /// If there is no such file, or the hub cannot be reached or names no
    /// contents.
    pub fn metadata(&self, commit: &str, file: &str) -> Result<Metadata> {
        let mut uri = self.uri(&self.resolve(commit, file))?;
        for _ in 0..REDIRECTIONS {
            let request = self.agent.head(uri.clone());
            let response = match self.token(&uri) {
                Some(token) => request.header("Authorization", token).call(),
                None => request.call(),
            };
            let response = response.map_err(|e| self.unreached(e))?;
            let header = |name: &str| response.headers().get(name)?.to_str().ok();
            let target = self.target(&response, &uri)?;
            // A renamed model is elsewhere on the hub; contents elsewhere have no name there.
            if let Some(target) = &target
                && same_origin(target, &self.endpoint)
                && header("x-linked-etag").is_none()
            {
                uri = target.clone();
                continue;
            }
            if target.is_none() {
                self.check(&response, Some(file))?;
            }
            let etag = header("x-linked-etag").or_else(|| header("etag"));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
            let plain = |etag: &&str| {
                let hexadecimal = etag.bytes().all(|b| b.is_ascii_hexdigit());
                hexadecimal && matches!(etag.len(), 40 | 64)
            };
            let etag = etag.filter(plain).ok_or_else(|| {
                self.problem(&format!("gives no checksum of {file}, as a hub does"))
            })?;
            let own_length = header("content-length").filter(|_| target.is_none());
            let bytes = header("x-linked-size").or(own_length);
            return Ok(Metadata {
                etag: etag.to_ascii_lowercase(),
                bytes: bytes.and_then(|bytes| bytes.parse().ok()),
            });
        }
        Err(self.problem("redirects in a circle"))
    }

    /// A file's contents from some byte on, if the server can begin there.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub fn contents(&self, commit: &str, file: &str, from: u64) -> Result<Response<Body>> {
        let from = (from > 0).then(|| format!("bytes={from}-"));
        self.get(&self.resolve(commit, file), from.as_deref())
    }

    /// A request that follows redirections.
    fn get(&self, uri: &str, range: Option<&str>) -> Result<Response<Body>> {
        let mut uri = self.uri(uri)?;
        for _ in 0..REDIRECTIONS {
            let mut request = self.agent.get(uri.clone());
            if let Some(token) = self.token(&uri) {
                request = request.header("Authorization", token);
            }
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            let response = request.call().map_err(|e| self.unreached(e))?;
            match self.target(&response, &uri)? {
                Some(target) => uri = target,
                None => return Ok(response),
            }
        }
        Err(self.problem("redirects in a circle"))
    }

    fn resolve(&self, commit: &str, file: &str) -> String {
        let (endpoint, id) = (&self.hub.endpoint, self.name.id());
        let file = utf8_percent_encode(file, PATH);
        format!("{endpoint}/{id}/resolve/{commit}/{file}")
    }

    fn uri(&self, text: &str) -> Result<Uri> {
        let uri = text.parse();
        uri.map_err(|_| Error::Input(format!("{text:?} is no address")))
    }

    /// What proves who asks, for the hub itself alone.
    fn token(&self, uri: &Uri) -> Option<String> {
        let token = self.hub.token.as_ref();
        let token = token.filter(|_| same_origin(uri, &self.endpoint));
        token.map(|token| format!("Bearer {token}"))
    }

    /// Where a response leads, if it leads somewhere.
    fn target(&self, response: &Response<Body>, from: &Uri) -> Result<Option<Uri>> {
        let status = response.status();
        if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let location = response.headers().get("location");
        let location = location.and_then(|location| location.to_str().ok());
        let target = location.and_then(|location| joined(from, location));
        let target = target.ok_or_else(|| self.problem("redirects to nowhere"))?;
        if from.scheme() == Some(&Scheme::HTTPS) && target.scheme() != Some(&Scheme::HTTPS) {
            return Err(self.problem("redirects to where nothing is encrypted"));
        }
        Ok(Some(target))
    }

    /// # Errors
    /// In one line, if the hub refuses.
    pub fn check(&self, response: &Response<Body>, file: Option<&str>) -> Result<()> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let (endpoint, id, revision) = (&self.hub.endpoint, self.name.id(), self.name.revision());
        let unknown = || {
            let token = match &self.hub.token {
                Some(_) => "the token is valid and may read it",
                None => {
                    "for a private one a token is needed: `hf auth login`, or HF_TOKEN in the \
                     environment"
                }
            };
            format!(
                "there is no such model on {endpoint}, or it is private: see whether the name is \
                 right; {token}"
            )
        };
        let text = match (status.as_u16(), header("x-error-code"), file) {
            (_, Some("GatedRepo"), _) => format!(
                "its owner lets in whom they choose (gated): accept the terms at {endpoint}/{id} \
                 and give a token of that account, with `hf auth login` or HF_TOKEN"
            ),
            (_, Some("RevisionNotFound"), _) => format!(
                "there is no branch, tag or commit {revision:?}; {endpoint}/{id}/tree/main shows \
                 which there are"
            ),
            (_, Some("EntryNotFound"), Some(file)) | (404, None, Some(file)) => {
                format!("it has no file {file}")
            }
            (_, Some("RepoNotFound"), _) | (404, _, _) => unknown(),
            (401, ..) if self.hub.token.is_none() => unknown(),
            (401, ..) => format!(
                "{endpoint} does not know the token: make a new one, or remove it (HF_TOKEN, or \
                 `hf auth logout`)"
            ),
            (403, ..) => format!(
                "{endpoint} forbids it: {}",
                reason(header("x-error-message"))
            ),
            (429, ..) => {
                let problem = format!("{endpoint} has too many requests; wait a few minutes");
                return Err(Error::Network(problem));
            }
            (code, ..) => {
                let why = reason(header("x-error-message"));
                return Err(self.problem(&format!("answers {code}: {why}")));
            }
        };
        Err(Error::Input(text))
    }

    pub fn unreached(&self, cause: ureq::Error) -> Error {
        let endpoint = &self.hub.endpoint;
        Error::Network(format!("{endpoint} cannot be reached: {cause}")).because(cause)
    }

    /// A fault of the server.
    pub fn problem(&self, what: &str) -> Error {
        Error::Network(format!("{} {what}", self.hub.endpoint))
    }
}

/// What a server says of its refusal, if that is short and plain.
fn reason(message: Option<&str>) -> &str {
    let plain = |text: &&str| text.len() < 300 && text.bytes().all(|b| (b' '..127).contains(&b));
    message.filter(plain).unwrap_or("it does not say why")
}

/// A listing as the hub writes it.
fn parsed(bytes: &[u8]) -> Option<Listing> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let commit = value["sha"].as_str().filter(|sha| is_commit(sha))?;
    let files = value["siblings"].as_array()?.iter();
    let files = files.map(|file| file["rfilename"].as_str().map(str::to_owned));
    Some(Listing {
        commit: commit.to_ascii_lowercase(),
        files: files.collect::<Option<_>>()?,
    })
}

/// Whether two addresses are of one server, by protocol, host and port.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("http")) => 80,
        (None, _) => 443,
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Where a `Location` leads from an address.
fn joined(from: &Uri, location: &str) -> Option<Uri> {
    let target: Uri = location.parse().ok()?;
    if let Some(scheme) = target.scheme_str() {
        return matches!(scheme, "http" | "https").then_some(target);
    }
    let mut parts = from.clone().into_parts();
    if let Some(rest) = location.strip_prefix("//") {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        parts.authority = Some(host.parse::<Authority>().ok()?);
        parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
    } else if location.starts_with('/') {
        parts.path_and_query = Some(location.parse::<PathAndQuery>().ok()?);
    } else {
        let folder = &from.path()[..=from.path().rfind('/')?];
        parts.path_and_query = Some(format!("{folder}{location}").parse().ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// Whom to believe: the system's certificates, with those of a company's
/// network, or Mozilla's where a container has none.
fn roots() -> RootCerts {
    const PLACES: [&str; 4] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ];
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let there = || {
        PLACES
            .iter()
            .any(|place| std::path::Path::new(place).is_file())
    };
    match !cfg!(target_os = "linux") || named || there() {
        true => RootCerts::PlatformVerifier,
        false => RootCerts::WebPki,
    }
}

/// Reads a body piece by piece.
pub(super) fn reader(response: Response<Body>) -> impl Read {
    response.into_body().into_reader()
}

/// Whether an error is of a server that may answer another time.
pub(super) fn is_network(error: &Error) -> bool {
    error.kind() == ErrorKind::Network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined_as_browsers_join_them() {
        let from: Uri = "https://hub.example:8/a/b/c?q=1".parse().unwrap();
        for (location, to) in [
            ("/x/y?z=2", "https://hub.example:8/x/y?z=2"),
            ("d", "https://hub.example:8/a/b/d"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("http://other.example/x", "http://other.example/x"),
        ] {
            assert_eq!(joined(&from, location).unwrap(), *to);
        }
        assert_eq!(joined(&from, "ftp://x/y"), None);
    }

    #[test]
    fn a_port_or_a_protocol_makes_another_server() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let same = |a, b| same_origin(&uri(a), &uri(b));
        assert!(same("https://Hub.example/a", "https://hub.example:443/b"));
        for other in [
            "http://hub.example/",
            "https://hub.example:8/",
            "https://x.hub.example/",
            "https://hub.example.org/",
        ] {
            assert!(!same("https://hub.example/", other), "{other}");
        }
    }
}
