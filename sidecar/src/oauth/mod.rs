//! OAuth 2.0: third parties that users let into a workspace. Here is what is judged and stored; pages, forms and JSON are in
//! `api/oauth`.
//!
//! It does the authorization code grant with PKCE and nothing else, as RFC 9700 wants it:
//!
//! - O1: A code or refresh token counts once. Whoever comes with one that was used ends all that came from the same consent.
//! - O2: Whoever issues, refreshes or ends tokens holds the lock of their grant's row. So of two with the same code one wins,
//!   and what ends a family misses no pair that is being issued.
//! - O3: A browser is sent only to an address that the application has registered, letter by letter.
//! - O4: What an application can do is what the user agreed to, what the application may ask for now, and what the user's role
//!   allows now: the least of these.

mod application;
mod client;
mod code;
mod grant;
mod issuer;
mod params;
mod pkce;
mod redirect;
mod request;
mod session;
mod settings;
mod text;
mod token;

pub(crate) use application::{Application, Owner, Wanted};
pub(crate) use client::{Secrets, Unreadable, check_secret, find};
pub(crate) use code::exchange;
pub(crate) use grant::{Authorization, allow, list, revoke};
pub use issuer::Issuer;
pub(crate) use params::Params;
pub(crate) use redirect::{source as csp_source, with as redirect_with};
pub(crate) use request::{Refusal, Request};
pub(crate) use session::Session;
pub use settings::OAuthSettings;
pub(crate) use token::{Issued, TokenError, end, refresh};
