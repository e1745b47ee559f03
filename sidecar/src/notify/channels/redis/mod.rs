//! REDIS channels.

mod key;
mod settings;

pub(super) use settings::RedisSettings;
