//! OAuth 2.0: third parties that users let into a workspace.

mod settings;

pub use settings::OAuthSettings;
