//! What a member of a workspace may do.

use serde::{Deserialize, Serialize};

use crate::db::DbError;

/// What a member of a workspace may do. Each may do all that those before it may.
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
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See caches, their queries and rules, and who the members are.
    Viewer,
    /// Create, change, purge and delete caches and rules.
    Member,
    /// Say who is a member, up to admins; manage the workspace's applications; read its audit log.
    Admin,
    /// Say who is an owner; delete the workspace.
    Owner,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Member, Self::Admin, Self::Owner];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// Whether someone with this role may change a user, who may be oneself, from being one thing in the workspace to
    /// being another; `None` is no member.
    pub(crate) fn may_change_member(
        self,
        is_oneself: bool,
        from: Option<Self>,
        to: Option<Self>,
    ) -> bool {
        let is_about_owners = [from, to].contains(&Some(Self::Owner));
        let least = if is_about_owners { Self::Owner } else { Self::Admin };
        self >= least || (is_oneself && to.is_none())
    }

    /// The role that is stored so.
    pub(super) fn stored(text: &str) -> Result<Self, DbError> {
        let unknown = || DbError::Unexpected(format!("there is no role {text}"));
        Self::parse(text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::Role::{Admin, Member, Owner, Viewer};
    use super::*;

    #[test]
    fn only_owners_say_who_is_an_owner() {
        for role in [Viewer, Member, Admin] {
            assert!(!role.may_change_member(false, Some(Viewer), Some(Owner)));
            assert!(!role.may_change_member(true, Some(role), Some(Owner)), "nor of oneself");
            assert!(!role.may_change_member(false, Some(Owner), Some(Member)));
            assert!(!role.may_change_member(false, Some(Owner), None));
        }
        assert!(Owner.may_change_member(false, None, Some(Owner)));
        assert!(Owner.may_change_member(false, Some(Owner), None));
    }

    #[test]
    fn admins_say_who_else_is_a_member_and_anybody_may_leave() {
        for role in [Viewer, Member] {
            assert!(!role.may_change_member(false, None, Some(Viewer)));
            assert!(!role.may_change_member(true, Some(role), Some(Admin)));
        }
        assert!(Admin.may_change_member(false, Some(Admin), None));
        assert!(Admin.may_change_member(false, None, Some(Admin)));
        for role in Role::ALL {
            assert!(role.may_change_member(true, Some(role), None));
            assert!(Owner.may_change_member(false, Some(role), None));
        }
    }
}
