//! `sslmode` and `sslrootcert` of a database URL, and the TLS they ask for.
//!
//! As in libpq (PostgreSQL manual, "SSL Support" of libpq): `prefer`, the default, takes TLS where the server
//! offers it and verifies nothing, `require` encrypts to whoever answers, and verifies the certificate only
//! where `sslrootcert` names whom to trust; `verify-ca` and `verify-full` always do.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;

/// What a URL asks of the connection's encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    mode: Mode,
    /// Whom to trust instead of the system's roots; a PEM file.
    root_file: Option<String>,
}

/// libpq's `sslmode` (PostgreSQL manual, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why TLS can't be had as asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    /// A mode that libpq does not know.
    #[error("sslmode is disable, allow, prefer, require, verify-ca or verify-full, not {0}")]
    Mode(String),
    /// The file of roots is of no use.
    #[error("sslrootcert {0}: {1}")]
    Roots(String, String),
    /// A key/value string whose quotes do not close.
    #[error("the connection string ends in the middle of a value")]
    Unterminated,
}

impl Tls {
    /// Takes the two options out of a URL or key/value string; gives what is left for tokio-postgres, which
    /// knows neither `verify-full` nor `sslrootcert`.
    pub(crate) fn take_from(url: &str) -> Result<(Self, String), TlsError> {
        let (options, rest) = if url.starts_with("postgres://") || url.starts_with("postgresql://")
        {
            take_from_url(url)
        } else {
            take_from_pairs(url)?
        };
        let mut tls = Self::default();
        for (name, value) in options {
            if name == "sslmode" {
                tls.mode = match value.as_str() {
                    "disable" => Mode::Disable,
                    "allow" => Mode::Allow,
                    "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" => Mode::VerifyFull,
                    _ => return Err(TlsError::Mode(value)),
                };
            } else if value != "system" && !value.is_empty() {
                tls.root_file = Some(value);
            }
        }
        Ok((tls, rest))
    }

    /// The mode as tokio-postgres understands it.
    pub(crate) const fn ssl_mode(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Allow | Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }

    /// The options that say the same again.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        let mode = match self.mode {
            Mode::Disable => "disable",
            Mode::Allow => "allow",
            Mode::Prefer => "prefer",
            Mode::Require => "require",
            Mode::VerifyCa => "verify-ca",
            Mode::VerifyFull => "verify-full",
        };
        let mode = ("sslmode", mode.to_owned());
        std::iter::once(mode)
            .chain(self.root_file.clone().map(|file| ("sslrootcert", file)))
            .collect()
    }

    /// Whether a connection without TLS will not do.
    pub(crate) const fn is_required(&self) -> bool {
        matches!(self.mode, Mode::Require | Mode::VerifyCa | Mode::VerifyFull)
    }

    /// What a client says in its handshake, or none when no TLS is wanted.
    pub(crate) fn client_config(&self) -> Result<Option<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .expect("ring supports the default protocol versions")
        };
        let config = match self.mode {
            Mode::Disable => return Ok(None),
            Mode::Allow | Mode::Prefer => {
                with_verifier(builder(), Verifier { provider, chain: None })
            }
            Mode::Require if self.root_file.is_none() => {
                with_verifier(builder(), Verifier { provider, chain: None })
            }
            Mode::Require | Mode::VerifyCa => {
                let roots = Arc::new(self.roots()?);
                let chain =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                        .build()
                        .map_err(|error| self.unusable(&error))?;
                with_verifier(builder(), Verifier { provider, chain: Some(chain) })
            }
            Mode::VerifyFull => {
                builder().with_root_certificates(self.roots()?).with_no_client_auth()
            }
        };
        Ok(Some(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.root_file else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let certificates = CertificateDer::pem_file_iter(Path::new(file))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| self.unusable(&error))?;
        if certificates.is_empty() {
            return Err(self.unusable(&"there is no certificate in it"));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| self.unusable(&error))?;
        }
        Ok(roots)
    }

    fn unusable(&self, why: &dyn std::fmt::Display) -> TlsError {
        let file = self.root_file.clone().unwrap_or_else(|| "of the system".to_owned());
        TlsError::Roots(file, why.to_string())
    }
}

/// For servers that anybody may name: certificate and name are verified, with the system's roots.
pub(crate) fn public_client() -> Result<ClientConfig, String> {
    let tls = Tls { mode: Mode::VerifyFull, root_file: None };
    let config = tls.client_config().map_err(|error| error.to_string())?;
    config.ok_or_else(|| "there is no TLS".to_owned())
}

type Options = Vec<(String, String)>;

fn is_ours(name: &str) -> bool {
    name == "sslmode" || name == "sslrootcert"
}

fn take_from_url(url: &str) -> (Options, String) {
    // A password may hold a question mark; what counts is the first one after it. As for libpq, a user ends before
    // the first slash.
    let start = url.find("://").map_or(0, |at| at + 3);
    let authority = &url[start..start + url[start..].find('/').unwrap_or(url.len() - start)];
    let host = start + authority.find('@').unwrap_or(0);
    let Some(query) = url[host..].find('?').map(|at| host + at) else {
        return (Vec::new(), url.to_owned());
    };
    let mut options = Vec::new();
    let mut kept = Vec::new();
    for pair in url[query + 1..].split('&') {
        match pair.split_once('=') {
            Some((name, value)) if is_ours(name) => {
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                options.push((name.to_owned(), value.into_owned()));
            }
            _ => kept.push(pair),
        }
    }
    let mut rest = url[..query].to_owned();
    if !kept.is_empty() {
        rest = format!("{rest}?{}", kept.join("&"));
    }
    (options, rest)
}

/// `name = value` pairs; a value in single quotes may hold spaces, and a backslash takes the next character
/// as it is (PostgreSQL manual, "Keyword/Value Connection Strings").
fn take_from_pairs(text: &str) -> Result<(Options, String), TlsError> {
    let mut options = Vec::new();
    let mut kept = String::new();
    let mut at = 0;
    while let Some(start) = text[at..].find(|c: char| !c.is_whitespace()).map(|n| at + n) {
        let Some(equals) = text[start..].find('=').map(|n| start + n) else {
            kept.push_str(&text[at..]);
            break;
        };
        let name = text[start..equals].trim();
        let value_at = text[equals + 1..]
            .find(|c: char| !c.is_whitespace())
            .map_or(text.len(), |n| equals + 1 + n);
        let (value, end) = value(text, value_at)?;
        if is_ours(name) {
            options.push((name.to_owned(), value));
        } else {
            kept.push_str(&text[at..end]);
        }
        at = end;
    }
    Ok((options, kept))
}

/// The value that begins at `start`, and where it ends.
fn value(text: &str, start: usize) -> Result<(String, usize), TlsError> {
    let quoted = text[start..].starts_with('\'');
    let mut value = String::new();
    let mut chars = text[start..].char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.push(chars.next().ok_or(TlsError::Unterminated)?.1),
            '\'' if quoted => return Ok((value, start + at + 1)),
            c if !quoted && c.is_whitespace() => return Ok((value, start + at)),
            c => value.push(c),
        }
    }
    if quoted { Err(TlsError::Unterminated) } else { Ok((value, text.len())) }
}

/// Verifies less than rustls would: with `chain` everything but the name, without it nothing. The signature of
/// the handshake is always checked.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

type WantsVerifier = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn with_verifier(builder: WantsVerifier, verifier: Verifier) -> ClientConfig {
    builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last, so this error says that all else is well.
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(url: &str) -> (Mode, Option<String>, String) {
        let (tls, rest) = Tls::take_from(url).expect("readable");
        (tls.mode, tls.root_file, rest)
    }

    #[test]
    fn the_options_are_taken_out_of_a_url() {
        let url = "postgres://u:p?w%3F@h:1/d?application_name=x&sslmode=verify-full&sslrootcert=/a%20b.pem";
        assert_eq!(
            take(url),
            (
                Mode::VerifyFull,
                Some("/a b.pem".to_owned()),
                "postgres://u:p?w%3F@h:1/d?application_name=x".to_owned()
            )
        );
        assert_eq!(take("postgresql://h/d?sslmode=disable").2, "postgresql://h/d");
        let at_later = take("postgres://h/d?sslmode=require&application_name=a@b");
        assert_eq!(
            at_later,
            (Mode::Require, None, "postgres://h/d?application_name=a@b".to_owned())
        );
        assert_eq!(take("postgres://h/d"), (Mode::Prefer, None, "postgres://h/d".to_owned()));
    }

    #[test]
    fn the_options_are_taken_out_of_pairs() {
        let (mode, file, rest) = take(
            r"host=h sslmode = verify-ca password='it''s sslmode=x' sslrootcert='/a b\'c' dbname=d",
        );
        // Two quotes in a row end one value; libpq would complain, and so will tokio-postgres.
        assert_eq!((mode, file.as_deref()), (Mode::VerifyCa, Some("/a b'c")));
        assert!(rest.contains("dbname=d") && !rest.contains("verify-ca"), "{rest}");
        assert_eq!(take(r"password='a b\'' host=h").2, r"password='a b\'' host=h");
        assert_eq!(Tls::take_from("password='x"), Err(TlsError::Unterminated));
        assert_eq!(take("").2, "");
    }

    #[test]
    fn an_unknown_mode_is_named() {
        let error = Tls::take_from("postgres://h/d?sslmode=maybe").expect_err("unknown");
        assert!(error.to_string().contains("verify-full, not maybe"));
    }

    #[test]
    fn a_root_file_that_is_of_no_use_is_named() {
        let (tls, _) = Tls::take_from("postgres://h/d?sslmode=verify-full&sslrootcert=/nowhere/x")
            .expect("readable");
        let error = tls.client_config().expect_err("no such file");
        assert!(error.to_string().contains("/nowhere/x"), "{error}");
    }

    #[test]
    fn every_mode_has_a_connector_or_needs_none() {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            let (tls, _) = Tls::take_from(&format!("host=h sslmode={mode}")).expect("known");
            // A machine without any root certificate can't verify; that is told, not ignored.
            if let Ok(connector) = tls.client_config() {
                assert_eq!(connector.is_none(), mode == "disable");
            }
        }
    }
}
