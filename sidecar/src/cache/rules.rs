//! What people decide over the automatic: by template, by table, and for all that no rule names.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::description::Plan;
use super::settings::Mode;

/// What a rule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"cache": true, "ttl_ms": 60000}))]
pub struct Rule {
    /// False: nothing is kept.
    pub cache: Option<bool>,
    /// Milliseconds that an answer may be given again, even where the origin's log does not tell what changes it.
    pub ttl_ms: Option<u64>,
    /// Answers are shared by all roles that may read the tables. Who may not is told by nobody: for public data only.
    pub share_roles: Option<bool>,
}

/// The rules of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rules {
    /// What is kept without a rule, where that is not what the configuration says.
    pub(crate) mode: Option<Mode>,
    pub(crate) templates: HashMap<u64, Rule>,
    /// By `schema.name`.
    pub(crate) tables: HashMap<String, Rule>,
}

/// What is done with answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// They are kept until what they depend on changes, and no longer than this.
    Keep(Option<Duration>),
    /// They are kept for this long, whatever changes.
    Age(Duration),
    /// They are not kept.
    No(String),
}

impl Rules {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.templates.len() + self.tables.len()
    }

    /// What is done with the answers of a statement of this template.
    pub(crate) fn decide(&self, template: u64, plan: &Plan, mode: Mode, follows: bool) -> Decision {
        let of_template = self.templates.get(&template);
        let tables = plan.description.tables.iter();
        let of_tables: Vec<&Rule> = tables
            .filter_map(|table| self.tables.get(&format!("{}.{}", table.schema, table.name)))
            .collect();
        // A template's rule goes before those of its tables; of those the strictest.
        let cache = of_template.and_then(|rule| rule.cache).or_else(|| {
            let said: Vec<bool> = of_tables.iter().filter_map(|rule| rule.cache).collect();
            (!said.is_empty()).then(|| said.iter().all(|cache| *cache))
        });
        let ttl = of_template
            .and_then(|rule| rule.ttl_ms)
            .or_else(|| of_tables.iter().filter_map(|rule| rule.ttl_ms).min())
            .map(Duration::from_millis);
        match (mode, cache) {
            (Mode::Observe, _) => return Decision::No("the cache only observes".to_owned()),
            (_, Some(false)) => return Decision::No("a rule says so".to_owned()),
            (Mode::Manual, None) if ttl.is_none() => {
                return Decision::No("no rule names it".to_owned());
            }
            _ => {}
        }
        match plan.obstacle() {
            None if follows => Decision::Keep(ttl),
            None => match ttl {
                Some(ttl) => Decision::Age(ttl),
                None => Decision::No(
                    "no replication tells what changes it, and no rule gives it a time to live"
                        .to_owned(),
                ),
            },
            Some(why) => match ttl {
                Some(ttl) if plan.description.cacheable || plan.description.by_rule => {
                    Decision::Age(ttl)
                }
                _ => Decision::No(why),
            },
        }
    }

    /// Whether some template's answers are for all roles.
    pub(crate) fn some_share_roles(&self) -> bool {
        self.templates.values().any(|rule| rule.share_roles == Some(true))
    }

    /// Whether answers of a template are for all roles.
    pub(crate) fn shares_roles(&self, template: u64) -> bool {
        self.templates.get(&template).and_then(|rule| rule.share_roles).unwrap_or(false)
    }
}
