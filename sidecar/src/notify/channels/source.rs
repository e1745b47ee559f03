//! Events of one channel, from the log.
