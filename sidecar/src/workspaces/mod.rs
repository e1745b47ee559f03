//! Workspaces: who may see and change which caches and applications.
//!
//! Invariant: a workspace has an owner. Whoever changes who its members are holds its row (`lock`) until the end of the
//! transaction, and reads the members after that. So of two owners who leave at once, one stays.
//!
//! Locks are taken in one order, so that nobody waits in a circle: users, then workspaces, then what belongs to them.

pub(crate) mod caches;
mod members;
mod role;
mod settings;
mod store;

pub(crate) use members::{
    Member, hold_user, member, members, of_user, owned, owners_besides, put_member, remove_member,
};
pub use role::Role;
pub use settings::WorkspaceSettings;
pub(crate) use store::{
    Workspace, cache_names, create, delete, find, hold_owner, list, lock, of_cache, rename, role,
};
