//! What goes wrong, as Postgres tells it: severity, SQLSTATE, message, detail, hint.

use std::borrow::Cow;

use integratedb_wire::{ErrorField, write};

/// An ErrorResponse of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    fatal: bool,
    code: &'static str,
    message: Cow<'static, str>,
    detail: Option<String>,
    hint: Option<Cow<'static, str>>,
}

impl Report {
    /// The session goes on.
    pub(crate) fn error(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { fatal: false, code, message: message.into(), detail: None, hint: None }
    }

    /// The session ends.
    pub(crate) fn fatal(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { fatal: true, ..Self::error(code, message) }
    }

    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    pub(crate) fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The SQLSTATE.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// The primary message.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Appends the ErrorResponse.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let severity = if self.fatal { "FATAL" } else { "ERROR" };
        // A zero byte, which a string of the protocol can't hold, could only come from outside.
        let clean = |text: &str| text.replace('\0', " ");
        let message = clean(&self.message);
        let detail = self.detail.as_deref().map(clean);
        let hint = self.hint.as_deref().map(clean);
        let mut fields = vec![
            (ErrorField::SEVERITY, severity),
            (ErrorField::SEVERITY_NONLOCALIZED, severity),
            (ErrorField::CODE, self.code),
            (ErrorField::MESSAGE, &message),
        ];
        fields.extend(detail.as_deref().map(|text| (ErrorField::DETAIL, text)));
        fields.extend(hint.as_deref().map(|text| (ErrorField::HINT, text)));
        write::backend::error(buffer, fields).expect("no zero byte is left and the text is short");
    }
}

/// The origin can't be reached, or went away.
pub(crate) const CONNECTION_FAILURE: &str = "08006";
/// The client said what the protocol does not allow.
pub(crate) const PROTOCOL_VIOLATION: &str = "08P01";
/// A role or password that is not right.
pub(crate) const INVALID_PASSWORD: &str = "28P01";
/// A role that may not come in this way.
pub(crate) const INVALID_AUTHORIZATION: &str = "28000";
/// Something the proxy does not do.
pub(crate) const NOT_SUPPORTED: &str = "0A000";
/// Too many of something.
pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
/// The proxy stops, or was told to end the session.
pub(crate) const ADMIN_SHUTDOWN: &str = "57P01";
/// Not now, but later.
pub(crate) const CANNOT_CONNECT_NOW: &str = "57P03";
/// A cache or database that is not there.
pub(crate) const INVALID_CATALOG_NAME: &str = "3D000";
/// A transaction that was idle for too long.
pub(crate) const IDLE_IN_TRANSACTION: &str = "25P03";
/// A session that was idle for too long.
pub(crate) const IDLE_SESSION: &str = "57P05";
/// A query that took too long.
pub(crate) const QUERY_CANCELED: &str = "57014";
/// A limit that is set for all.
pub(crate) const CONFIGURATION_LIMIT: &str = "53400";
/// A limit of the proxy that a statement exceeds.
pub(crate) const PROGRAM_LIMIT: &str = "54000";
