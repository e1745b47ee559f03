//! What can be wrong with a value's text, or with what the catalog is said to hold.

/// A text that is not what its type writes. Either the session has other settings, or the type is not the one of the
/// time of the change any more: a composite type may have got an attribute since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Neither `t` nor `f`.
    #[error("a text is not that of a boolean")]
    Bool,
    /// Neither a number nor NaN or an infinity.
    #[error("a text is not that of a number")]
    Number,
    /// Not a date in ISO 8601.
    #[error("a text is not that of a date in DateStyle ISO")]
    Date,
    /// Not a timestamp in ISO 8601.
    #[error("a text is not that of a timestamp in DateStyle ISO")]
    Timestamp,
    /// Braces, quotes or delimiters of an array are not where they belong.
    #[error("a text is not that of an array")]
    Array,
    /// Parentheses, quotes or commas of a row are not where they belong.
    #[error("a text is not that of a composite value")]
    Record,
    /// A row of another number of attributes.
    #[error("a composite value does not have the {expected} attributes of its type")]
    Attributes {
        /// How many its type has.
        expected: usize,
    },
    /// Quotes or arrows of an hstore are not where they belong.
    #[error("a text is not that of an hstore")]
    Hstore,
}

/// Rows that are no answer to [`Types::query`](super::Types::query).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypesError {
    /// A row of another shape.
    #[error("row {0} of the catalog's types can't be read")]
    Row(usize),
    /// A type that another is made of is not among the rows.
    #[error("type {0} is not among the catalog's types")]
    Unknown(u32),
    /// Types are made of each other beyond what is followed.
    #[error("type {0} is made of too many others, one inside the other")]
    Depth(u32),
}
