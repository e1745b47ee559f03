//! WEBHOOK channels.

mod settings;

pub(super) use settings::WebhookSettings;
