//! What an application may be allowed to do, as PolyScale's document names it.

use serde::{Deserialize, Serialize};

/// What an application may be allowed to do with the caches of a workspace.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[schema(as = ApplicationScope)]
pub enum Scope {
    /// See caches, their queries and their state.
    #[serde(rename = "caches:read")]
    CachesRead,
    /// Create, change, purge and delete caches.
    #[serde(rename = "caches:write")]
    CachesWrite,
    /// See rules.
    #[serde(rename = "cacheRules:read")]
    CacheRulesRead,
    /// Create, change and delete rules.
    #[serde(rename = "cacheRules:write")]
    CacheRulesWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] =
        [Self::CachesRead, Self::CachesWrite, Self::CacheRulesRead, Self::CacheRulesWrite];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CachesRead => "caches:read",
            Self::CachesWrite => "caches:write",
            Self::CacheRulesRead => "cacheRules:read",
            Self::CacheRulesWrite => "cacheRules:write",
        }
    }

    /// The scope that is written so, letter by letter.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
