//! What can be set about OAuth; the section `[oauth]` of the configuration file.

use serde::Deserialize;

use super::issuer::Issuer;

/// The section `[oauth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuthSettings {
    /// The URL under which browsers and applications reach this sidecar, `https://…` without a path; `http://` only for
    /// addresses of the same machine. Without it there is no authorization server.
    pub issuer: Option<Issuer>,
    /// Seconds for which a code can be traded for tokens.
    pub code_secs: u32,
    /// Seconds for which a token is valid.
    pub token_secs: u32,
    /// Seconds for which a refresh token is valid.
    pub refresh_token_secs: u32,
    /// Seconds for which a browser stays logged in.
    pub session_secs: u32,
}

impl Default for OAuthSettings {
    fn default() -> Self {
        Self {
            issuer: None,
            code_secs: 60,
            token_secs: 3600,
            refresh_token_secs: 30 * 24 * 3600,
            session_secs: 3600,
        }
    }
}
