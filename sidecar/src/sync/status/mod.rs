//! How sync is: what REST shows of tenants, models, entries, integrations and the queue.
//!
//! Nothing here changes anything. A list is read by the page, along an index, and a page looks at a bounded number of rows;
//! where a filter leaves out most of them, a page may have few models and say that there are more. A single tenant or
//! integration is shown with counts, which cost what is due of it and no more than a pass through its own rows.

mod entries;
mod follower;
mod integrations;
mod models;
mod one;
mod tenants;
mod work;

pub use entries::{Entry, entries};
pub use follower::follower_lag;
pub use integrations::{IntegrationStatus, integration};
pub use models::{ModelState, ModelSummary, Models, ModelsFilter, Parent, models};
pub use one::{AtIntegration, ModelStatus, UpdateStatus, model};
pub use tenants::{Tenant, TenantStatus, tenant, tenants};
pub use work::{Queue, Work, queue};
