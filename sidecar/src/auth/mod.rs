//! Who may use the REST API: passwords, tokens and the limit on guessing.

mod bucket;
mod limit;
mod password;
mod principal;
mod scope;
mod token;

pub(crate) use bucket::{Buckets, Left};
pub use limit::{Attempt, LoginLimit};
pub(crate) use limit::{lock, network};
pub use password::Passwords;
pub use principal::{Application, Principal};
pub use scope::Scope;
pub use token::{Pair, Token, Tokens};
pub(crate) use token::{hash as hash_token, random as random_secret};
