//! Channels in the database.

mod configure;
mod letters;
mod progress;
mod row;
mod status;

pub use configure::{Held, NewSecret, hold, replace, rotate_secret, sealed, set_enabled};
pub use letters::{DeadLetter, Replay, dead_letters, replay};
pub(super) use progress::{Dead, Figures, Kept, Progress, begin, fail};
pub(super) use row::{Row, Version, orphans, wanted};
pub use status::{ChannelState, ChannelStatus, list, page};
