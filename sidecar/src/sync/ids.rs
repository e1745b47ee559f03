//! Numbers of rows, each of its own type.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A tenant. Those of stakeholders are negative.
    TenantId,
    /// A model.
    ModelId,
    /// An entry of the log. Of two of one model, the later has the larger number.
    EntryId,
    /// An integration.
    IntegrationId
}

impl TenantId {
    /// Whether its models are tables of this database.
    pub const fn is_stakeholder(self) -> bool {
        self.0 < 0
    }
}
