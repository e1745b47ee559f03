//! SCRAM-SHA-256 at both ends, without ever knowing a password (RFC 5802, RFC 7677; PostgreSQL manual, "SASL
//! Authentication").
//!
//! A server that holds only a verifier learns the *client key* from a client's proof. With that key, and the
//! verifier's other half, it can prove itself to any server that holds the same verifier: so a client's login at
//! the proxy opens the origin. No I/O and no randomness here: nonces come in.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Mechanism without channel binding.
pub(crate) const PLAIN: &str = "SCRAM-SHA-256";
/// Mechanism with channel binding.
pub(crate) const PLUS: &str = "SCRAM-SHA-256-PLUS";

type Key = [u8; 32];

/// Why an exchange failed. What a client gets to see is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScramError {
    /// Not a message that SCRAM has in this place.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The other side binds to another TLS connection, or somebody took the better mechanism away.
    #[error("SCRAM channel binding check failed")]
    ChannelBinding,
    /// The proof is not right.
    #[error("the password is wrong")]
    Proof,
    /// The server does not hold the verifier that these keys come from.
    #[error("the origin's verifier is another one; the password has been changed since")]
    OtherVerifier,
    /// The server did not prove that it knows the verifier.
    #[error("the origin could not prove that it knows the verifier")]
    Server,
}

/// What a server stores instead of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Verifier {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl Verifier {
    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY` (pg_authid.rolpassword).
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (parameters, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|&n| n > 0)?,
            salt: BASE64_STANDARD.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// A verifier that no password fits, the same each time for the same user: so that who tries names can't tell
    /// which of them exist.
    pub(crate) fn mock(secret: &Key, user: &[u8]) -> Self {
        let hash = hmac(secret, &[user]);
        Self {
            iterations: 4096,
            salt: hash[..16].to_vec(),
            stored_key: hmac(secret, &[b"stored", user]),
            server_key: hmac(secret, &[b"server", user]),
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[verifier]")
    }
}

/// What opens an origin that holds the verifier; as good as the password there, so never written anywhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    verifier: Verifier,
    client_key: Key,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[keys]")
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.client_key);
    }
}

/// The server's side, after the client's first message.
pub(crate) struct Server {
    verifier: Verifier,
    /// What the client has to repeat about channel binding, with the binding itself.
    binding: Vec<u8>,
    nonce: String,
    /// The parts of the signed text that are known by now.
    client_first: String,
    server_first: String,
}

impl Server {
    /// Takes the client's first message, and gives ours. `certificate` is the hash of this end's certificate
    /// where there is TLS, and so PLUS was offered.
    pub(crate) fn start(
        verifier: Verifier,
        mechanism: &[u8],
        message: &[u8],
        certificate: Option<&[u8]>,
        nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ScramError::Malformed);
        };
        let with_plus = mechanism == PLUS.as_bytes();
        if !with_plus && mechanism != PLAIN.as_bytes() || !identity.is_empty() {
            return Err(ScramError::Malformed);
        }
        let mut binding = format!("{flag},{identity},").into_bytes();
        match (flag, with_plus, certificate) {
            ("n", false, _) | ("y", false, None) => {}
            // The client would have bound, had it seen that we offer it.
            ("y", false, Some(_)) => return Err(ScramError::ChannelBinding),
            ("p=tls-server-end-point", true, Some(hash)) => binding.extend(hash),
            _ => return Err(ScramError::Malformed),
        }
        // The user name here is empty or ignored: that of the startup packet counts.
        let client_nonce = bare
            .split(',')
            .find_map(|attribute| attribute.strip_prefix("r="))
            .filter(|nonce| !nonce.is_empty())
            .ok_or(ScramError::Malformed)?;
        if bare.starts_with("m=") {
            return Err(ScramError::Malformed);
        }
        let nonce = format!("{client_nonce}{nonce}");
        let salt = BASE64_STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let client_first = bare.to_owned();
        let reply = server_first.clone();
        Ok((Self { verifier, binding, nonce, client_first, server_first }, reply))
    }

    /// Takes the client's last message; gives ours, and the keys that its proof shows.
    pub(crate) fn finish(self, message: &[u8]) -> Result<(String, Keys), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let proof = key(proof).ok_or(ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let binding =
            attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or(ScramError::Malformed)?;
        let nonce =
            attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or(ScramError::Malformed)?;
        let binding = BASE64_STANDARD.decode(binding).map_err(|_| ScramError::Malformed)?;
        if binding != self.binding {
            return Err(ScramError::ChannelBinding);
        }
        if nonce != self.nonce {
            return Err(ScramError::Malformed);
        }
        let text = [&self.client_first, ",", &self.server_first, ",", without_proof].concat();
        let client_key = xor(&proof, &hmac(&self.verifier.stored_key, &[text.as_bytes()]));
        let hash: Key = Sha256::digest(client_key).into();
        if !bool::from(hash.ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Proof);
        }
        let signature = hmac(&self.verifier.server_key, &[text.as_bytes()]);
        let reply = format!("v={}", BASE64_STANDARD.encode(signature));
        Ok((reply, Keys { verifier: self.verifier, client_key }))
    }
}

/// The client's side, towards an origin.
pub(crate) struct Client<'a> {
    keys: &'a Keys,
    nonce: String,
    header: String,
    binding: Vec<u8>,
    signature: Option<Key>,
}

impl<'a> Client<'a> {
    /// `certificate` is the hash of the origin's certificate when PLUS is used. Over TLS without it, the origin is
    /// told that it could have been: one that did offer it then knows that somebody took it away.
    pub(crate) fn new(
        keys: &'a Keys,
        is_tls: bool,
        certificate: Option<&[u8]>,
        nonce: String,
    ) -> Self {
        let header = match certificate {
            Some(_) => "p=tls-server-end-point,,",
            None if is_tls => "y,,",
            None => "n,,",
        };
        let mut binding = header.as_bytes().to_vec();
        binding.extend(certificate.unwrap_or_default());
        Self { keys, nonce, header: header.to_owned(), binding, signature: None }
    }

    /// The first message.
    pub(crate) fn first(&self) -> String {
        format!("{}{}", self.header, self.first_bare())
    }

    fn first_bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// The last message, after the server's first.
    pub(crate) fn last(&mut self, server_first: &[u8]) -> Result<String, ScramError> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| ScramError::Malformed)?;
        let mut attributes = server_first.split(',');
        let mut next = |prefix: &str| {
            attributes.next().and_then(|a| a.strip_prefix(prefix)).ok_or(ScramError::Malformed)
        };
        let (nonce, salt, iterations) = (next("r=")?, next("s=")?, next("i=")?);
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        let verifier = &self.keys.verifier;
        let salt = BASE64_STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        if salt != verifier.salt || iterations != verifier.iterations.to_string() {
            return Err(ScramError::OtherVerifier);
        }
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(&self.binding));
        let text = [&self.first_bare(), ",", server_first, ",", &without_proof].concat();
        let signature = hmac(&verifier.stored_key, &[text.as_bytes()]);
        let proof = xor(&self.keys.client_key, &signature);
        self.signature = Some(hmac(&verifier.server_key, &[text.as_bytes()]));
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)))
    }

    /// Checks the server's last message.
    pub(crate) fn verify(&self, server_last: &[u8]) -> Result<(), ScramError> {
        let expected = self.signature.ok_or(ScramError::Malformed)?;
        let signature = server_last
            .strip_prefix(b"v=")
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(key)
            .ok_or(ScramError::Server)?;
        if bool::from(signature.ct_eq(&expected)) { Ok(()) } else { Err(ScramError::Server) }
    }
}

fn key(text: &str) -> Option<Key> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok()
}

fn hmac(key: &Key, parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn xor(a: &Key, b: &Key) -> Key {
    std::array::from_fn(|i| a[i] ^ b[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    fn verifier() -> Verifier {
        let text = postgres_protocol::password::scram_sha_256(b"correct horse");
        Verifier::read(&text).expect("it is one")
    }

    /// A client with a password, at our server.
    fn login(
        password: &[u8],
        binding: ChannelBinding,
        certificate: Option<&[u8]>,
    ) -> Result<Keys, ScramError> {
        let mechanism = if certificate.is_some() { PLUS } else { PLAIN };
        let mut client = ScramSha256::new(password, binding);
        let (server, first) = Server::start(
            verifier_of(password),
            mechanism.as_bytes(),
            client.message(),
            certificate,
            "nonce",
        )?;
        client.update(first.as_bytes()).expect("the server's first message is understood");
        let (last, keys) = server.finish(client.message())?;
        client.finish(last.as_bytes()).expect("the server proves that it knows the verifier");
        Ok(keys)
    }

    fn verifier_of(password: &[u8]) -> Verifier {
        if password == b"correct horse" { verifier() } else { Verifier::mock(&[1; 32], password) }
    }

    #[test]
    fn a_client_with_the_password_gets_in_and_others_do_not() {
        assert!(login(b"correct horse", ChannelBinding::unsupported(), None).is_ok());
        assert_eq!(
            login(b"wrong", ChannelBinding::unsupported(), None).expect_err("wrong"),
            ScramError::Proof
        );
    }

    #[test]
    fn channel_binding_is_to_our_certificate() {
        let ours = || ChannelBinding::tls_server_end_point(b"hash".to_vec());
        assert!(login(b"correct horse", ours(), Some(b"hash")).is_ok());
        let other = login(b"correct horse", ours(), Some(b"other")).expect_err("another hash");
        assert_eq!(other, ScramError::ChannelBinding);
    }

    #[test]
    fn a_client_that_was_kept_from_binding_is_refused() {
        let client = ScramSha256::new(b"correct horse", ChannelBinding::unrequested());
        let start = |hash| {
            Server::start(verifier(), PLAIN.as_bytes(), client.message(), hash, "nonce").map(|_| ())
        };
        assert_eq!(start(Some(b"hash")), Err(ScramError::ChannelBinding));
        assert_eq!(start(None), Ok(()));
    }

    #[test]
    fn the_keys_of_a_login_open_a_server_with_the_same_verifier_only() {
        let verifier = verifier();
        let mut client = ScramSha256::new(b"correct horse", ChannelBinding::unsupported());
        let (server, first) =
            Server::start(verifier.clone(), PLAIN.as_bytes(), client.message(), None, "x")
                .expect("starts");
        client.update(first.as_bytes()).expect("understood");
        let (_, keys) = server.finish(client.message()).expect("the right password");

        let open = |origin: Verifier, certificate: Option<&[u8]>| {
            let mut client =
                Client::new(&keys, certificate.is_some(), certificate, "c-nonce".to_owned());
            let mechanism = if certificate.is_some() { PLUS } else { PLAIN };
            let (server, first) = Server::start(
                origin,
                mechanism.as_bytes(),
                client.first().as_bytes(),
                certificate,
                "s-nonce",
            )?;
            let last = client.last(first.as_bytes())?;
            let (proof, _) = server.finish(last.as_bytes())?;
            client.verify(proof.as_bytes())
        };
        assert_eq!(open(verifier.clone(), None), Ok(()));
        assert_eq!(open(verifier, Some(b"hash")), Ok(()));
        assert_eq!(open(self::verifier(), None), Err(ScramError::OtherVerifier));
    }

    #[test]
    fn a_server_that_does_not_know_the_verifier_is_not_believed() {
        let keys = login(b"correct horse", ChannelBinding::unsupported(), None).expect("right");
        let mut client = Client::new(&keys, false, None, "n".to_owned());
        let salt = BASE64_STANDARD.encode(&keys.verifier.salt);
        let first = format!("r=n2,s={salt},i={}", keys.verifier.iterations);
        client.last(first.as_bytes()).expect("looks right");
        let forged = format!("v={}", BASE64_STANDARD.encode([7; 32]));
        assert_eq!(client.verify(forged.as_bytes()), Err(ScramError::Server));
    }

    #[test]
    fn garbage_is_malformed() {
        for text in [
            &b""[..],
            b"n",
            b"n,,",
            b"n,,n=,r=",
            b"z,,n=,r=x",
            b"n,a=b,n=,r=x",
            b"\xff,,r=x",
            b"n,,m=x,r=y",
        ] {
            let start = Server::start(verifier(), PLAIN.as_bytes(), text, None, "n");
            assert_eq!(start.map(|_| ()), Err(ScramError::Malformed), "{text:?}");
        }
        assert!(Verifier::read("md5abc").is_none());
        assert!(Verifier::read("SCRAM-SHA-256$0:AA==$AA==:AA==").is_none());
    }
}
