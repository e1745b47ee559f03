//! What is known of a text that the client sends.

use std::sync::Arc;

use integratedb_template::Frame;

use super::Session;
use crate::proxy::observe::Seen;

/// How much of a text is looked into for its template, in bytes.
pub(crate) const LOOKED_INTO: usize = 64 << 10;

impl Session {
    /// What is known of a text. Of a long one only the beginning is looked at; and one that is written so that its
    /// constants can't be told with certainty counts with the others. What either does is then judged by the tags
    /// of its answers.
    pub(super) fn see(&mut self, text: &[u8]) -> Arc<Seen> {
        let beginning = &text[..text.len().min(LOOKED_INTO)];
        self.judges_tags |= beginning.len() < text.len() || !self.reads_text;
        if self.reads_text {
            self.cache.queries().see(beginning)
        } else {
            Arc::clone(self.cache.queries().others())
        }
    }

    /// The same of what is asked once, so that where no answers are kept nobody needs to know it from one with other constants.
    pub(super) fn see_query(&mut self, text: &[u8]) -> Arc<Seen> {
        if self.caching.is_some() || !self.reads_text || text.len() > Frame::LONGEST {
            return self.see(text);
        }
        self.recent.see(self.cache.queries(), text)
    }

    /// What a text is, of those that can be looked into to their end.
    pub(super) fn look_at(&self, text: &[u8]) -> Option<Arc<Seen>> {
        (self.reads_text && text.len() <= LOOKED_INTO).then(|| self.cache.queries().see(text))
    }
}
