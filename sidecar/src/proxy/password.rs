//! The client's side of authentication at an origin: with the keys that a client of ours has shown, or with a
//! password of the sidecar's own.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::backend::OpenError;
use super::random;
use super::scram::{self, Keys, ScramError};

/// Who the sidecar itself is.
#[derive(Clone, Copy)]
pub(crate) struct Password<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a [u8],
}

impl Password<'_> {
    /// The message that shows the password to an origin that asks for it as it is.
    pub(super) fn in_clear_text(self) -> Result<Vec<u8>, OpenError> {
        message(self.password)
    }

    /// The message for an origin that asks for a hash.
    pub(super) fn hashed(self, salt: [u8; 4]) -> Result<Vec<u8>, OpenError> {
        message(md5_hash(self.user.as_bytes(), self.password, salt).as_bytes())
    }

    /// SCRAM by the password; the arguments are those of [`scram::Client::new`].
    pub(super) fn exchange(self, is_tls: bool, hash: Option<&[u8]>) -> Exchange<'static> {
        let binding = match hash {
            Some(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
            None if is_tls => ChannelBinding::unrequested(),
            None => ChannelBinding::unsupported(),
        };
        Exchange::Password(Box::new(ScramSha256::new(self.password, binding)))
    }
}

fn message(text: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut reply = Vec::new();
    integratedb_wire::write::frontend::sasl_response(&mut reply, &[text, b"\0"].concat())?;
    Ok(reply)
}

/// An exchange of SCRAM under way.
pub(super) enum Exchange<'a> {
    Keys(scram::Client<'a>),
    Password(Box<ScramSha256>),
}

impl<'a> Exchange<'a> {
    pub(super) fn of_keys(keys: &'a Keys, is_tls: bool, hash: Option<&[u8]>) -> Self {
        Self::Keys(scram::Client::new(keys, is_tls, hash, random::nonce()))
    }

    pub(super) fn first(&self) -> Vec<u8> {
        match self {
            Self::Keys(client) => client.first().into_bytes(),
            Self::Password(client) => client.message().to_vec(),
        }
    }

    pub(super) fn last(&mut self, server_first: &[u8]) -> Result<Vec<u8>, ScramError> {
        match self {
            Self::Keys(client) => client.last(server_first).map(String::into_bytes),
            Self::Password(client) => {
                client.update(server_first).map_err(|_| ScramError::Malformed)?;
                Ok(client.message().to_vec())
            }
        }
    }

    pub(super) fn verify(&mut self, server_last: &[u8]) -> Result<(), ScramError> {
        match self {
            Self::Keys(client) => client.verify(server_last),
            Self::Password(client) => client.finish(server_last).map_err(|_| ScramError::Server),
        }
    }
}
