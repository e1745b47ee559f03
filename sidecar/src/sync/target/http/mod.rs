//! Anything that takes requests: URL, headers and body are templates over what a model says.
//!
//! Templates are written by one who may configure integrations, and filled with what others have written into rows. So a
//! value can't leave its place: in a URL it is percent-encoded, in a body of JSON it is JSON (`template`), the host is
//! constant, and a value can't lead to another folder (`request`).

mod request;
mod settings;
mod target;
mod template;

pub(super) use settings::check;
pub(super) use target::HttpTarget;
