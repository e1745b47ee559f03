//! What can be wrong with bytes that should be a message.

/// Why bytes are not a message, or a message can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length that no message can have.
    #[error("invalid message length")]
    Length,
    /// A message longer than the reader allows.
    #[error("a message of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// A message that ends before its fields do.
    #[error("the message ends before its contents do")]
    Truncated,
    /// Bytes after the last field.
    #[error("the message goes on after its contents end")]
    Trailing,
    /// A string without its ending zero byte.
    #[error("a string in the message has no end")]
    Unterminated,
    /// A field with a value that it cannot have.
    #[error("a field of the message has an invalid value")]
    Value,
    /// A message type that the protocol does not have.
    #[error("invalid message type {0}")]
    Tag(u8),
    /// A string to be written holds a zero byte, which would end it.
    #[error("a string holds a zero byte")]
    Nul,
}
