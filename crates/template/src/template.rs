//! Lives here: the text of a template while it is written: spacing, length, rows that repeat.
//! Does not live here: which tokens are written. `shape.rs` decides that.

/// A template is at most this long, in bytes. A longer one ends in `…`.
pub const MAX_TEMPLATE: usize = 4096;

/// Ends a template that was cut.
pub(crate) const ELLIPSIS: &str = "…";

/// Room that is kept for a space and the ellipsis.
const RESERVE: usize = 1 + ELLIPSIS.len();

/// What is written, as far as spacing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A keyword that is no name: a space follows.
    Keyword,
    /// A name: an opening bracket sticks to it.
    Name,
    Constant,
    Parameter,
    Operator,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// `,` or `;`.
    Separator,
    Dot,
    /// `::`.
    Cast,
    /// `:`, `:=`, `..`, and bytes that start no token.
    Loose,
}

/// Writes a template.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
    last: Option<Piece>,
    full: bool,
}

impl Writer {
    /// For a text of `len` bytes.
    pub(crate) fn new(len: usize) -> Self {
        Self { out: Vec::with_capacity((len + 16).min(MAX_TEMPLATE)), last: None, full: false }
    }

    /// How much is written, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether a space goes before `piece`. No two tokens may ever fuse into another token: the
    /// template of a template is that template.
    fn spaced(&self, piece: Piece, text: &[u8]) -> bool {
        use Piece::*;
        let Some(last) = self.last else { return false };
        match (last, piece) {
            (_, Close | Separator) | (Open, _) => false,
            (Dot | Loose, Dot) | (Cast | Loose, Cast) | (Dot | Cast, Loose) => true,
            (_, Dot | Cast) => false,
            (Dot, Operator) => text != b"*",
            (Cast, Operator) => true,
            (Dot | Cast, _) => false,
            (Name | Close | Constant | Parameter, Open) => last != Name && text != b"[",
            _ => true,
        }
    }

    /// Writes `text`, or ends the template if there is no room.
    pub(crate) fn push(&mut self, piece: Piece, text: &[u8]) {
        if self.full {
            return;
        }
        let room = MAX_TEMPLATE - RESERVE - self.out.len();
        // What replaces bytes that are no UTF-8 is never shorter than they are.
        if text.len() > room {
            return self.end();
        }
        let space = self.spaced(piece, text);
        let lossy = (!text.is_ascii()).then(|| String::from_utf8_lossy(text));
        let bytes = lossy.as_ref().map_or(text, |text| text.as_bytes());
        if usize::from(space) + bytes.len() > room {
            return self.end();
        }
        if space {
            self.out.push(b' ');
        }
        self.out.extend_from_slice(bytes);
        self.last = Some(piece);
    }

    /// Like `push`, in lower case.
    pub(crate) fn push_lower(&mut self, piece: Piece, text: &[u8]) {
        let from = self.out.len();
        self.push(piece, text);
        if !self.full {
            self.out[from..].make_ascii_lowercase();
        }
    }

    /// Writes the ellipsis. Nothing can be written after it.
    pub(crate) fn end(&mut self) {
        if !self.full {
            if self.spaced(Piece::Name, b"") {
                self.out.push(b' ');
            }
            self.out.extend_from_slice(ELLIPSIS.as_bytes());
            self.full = true;
        }
    }

    /// Takes back what was written from `first.1` on if it repeats `first` but for the numbers of
    /// parameters. `second` starts where the second row's bracket stands.
    pub(crate) fn drop_repeated(&mut self, first: (usize, usize), second: usize) -> bool {
        let (Some(row), Some(next)) = (self.out.get(first.0..first.1), self.out.get(second..))
        else {
            return false;
        };
        let same = !self.full && same_but_parameters(row, next);
        if same {
            self.out.truncate(first.1);
        }
        same
    }

    pub(crate) fn finish(self) -> String {
        String::from_utf8(self.out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Whether two rows are the same when all `$n` are.
fn same_but_parameters(mut one: &[u8], mut two: &[u8]) -> bool {
    fn past_digits(text: &[u8]) -> &[u8] {
        &text[text.iter().take_while(|byte| byte.is_ascii_digit()).count()..]
    }
    loop {
        match (one.split_first(), two.split_first()) {
            (None, None) => return true,
            (Some((a, after_one)), Some((b, after_two))) if a == b => {
                (one, two) = (after_one, after_two);
                if *a == b'$' {
                    (one, two) = (past_digits(one), past_digits(two));
                }
            }
            _ => return false,
        }
    }
}
