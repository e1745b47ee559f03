//! Who may use the REST API: passwords, tokens and the limit on guessing.

mod limit;
mod password;
mod token;

pub use limit::{Attempt, LoginLimit};
pub use password::Passwords;
pub(crate) use token::random as random_secret;
pub use token::{Pair, Token, Tokens};
