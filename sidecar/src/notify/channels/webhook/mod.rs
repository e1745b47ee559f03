//! WEBHOOK channels: requests to an endpoint, signed as Standard Webhooks has it.
//!
//! `worker` reads and sends; which events may go is for `order` to say, and `outbox` keeps those that are not finished.
//! An event that fails holds back its key alone, until the `retry` schedule ends; an endpoint that does not answer at
//! all holds back everything, by the `breaker`. `sign` signs requests.

mod body;
mod breaker;
mod order;
mod outbox;
mod request;
mod retry;
mod settings;
mod sign;
mod worker;

pub(super) use settings::WebhookSettings;
pub(super) use worker::run;
