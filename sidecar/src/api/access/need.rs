//! What an operation asks of whoever calls it.

use crate::auth::Scope;
use crate::workspaces::Role;

/// What an operation asks of whoever calls it. An application has no more rights than the user it acts for, and only in the
/// workspace that the user has let it into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Need {
    /// Nothing.
    Public,
    /// What the handler itself asks for: a token of another kind.
    Other,
    /// A user's token, which no application has.
    User,
    /// An operator's token; or, while there is no user at all, nothing.
    First,
    /// An operator's token.
    Operator,
    /// An operator's token, or in place of any a ticket, which the handler looks at.
    Ticket,
    /// The token of the user whose `{id}` the path has, or an operator's.
    Self_,
    /// The token of a member of the `{workspace}` of the path who has at least this role.
    Workspace(Role),
    /// The token of a member of the workspace of the cache `{id}` who has at least this role, or of an application that
    /// acts for one and has the scope; of a cache of the configuration file, which is in no workspace, an operator's.
    Cache(Role, Scope),
    /// A user's token, or an application's with the scope; the handler looks at workspaces.
    Caches(Scope),
}
