//! Counts what pg_recvlogical writes, by pgoutput: the most that could come out of the database.
//!
//! Rows are not parsed: `sent_at`, of 16 digits, is the only column of that length, and follows the id, of 10.

use std::io::{self, Read};
use std::time::Duration;

use memchr::memmem::Finder;

use crate::counter::{Counter, digits, now};
use crate::ready;

/// Bytes that are read at once.
const ROOM: usize = 1 << 20;

/// How a column of text begins that has 16 bytes. See the manual, "Logical Replication Message Formats".
const SENT_AT: &[u8] = b"t\0\0\0\x10";

const ID: usize = 10;
const DIGITS: usize = 16;

/// What is waited between two looks, so that it is not woken for each change: a pipe holds more than comes meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// Reads from standard input until all have come, or it ends.
pub(crate) fn read(counter: &Counter, with_pauses: bool) -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut heard = vec![0; ROOM];
    let mut length = 0;
    let finder = Finder::new(SENT_AT);
    ready()?;
    while !counter.is_done() {
        if with_pauses {
            std::thread::sleep(PAUSE);
        }
        let read = input.read(&mut heard[length..])?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        let (now, mut done) = (now(), 0);
        while let Some(at) = finder.find(&heard[done..length]) {
            let (start, end) = (done + at, done + at + SENT_AT.len() + DIGITS);
            if end > length {
                break;
            }
            let id = digits(&heard[start.saturating_sub(ID)..start]).0;
            counter.add(id, digits(&heard[start + SENT_AT.len()..end]).0, now);
            done = end;
        }
        // What a row may begin with is kept for the next look.
        let keep = (ID + SENT_AT.len() + DIGITS).min(length - done);
        heard.copy_within(length - keep..length, 0);
        length = keep;
    }
    Ok(())
}
