//! The bytes that are answered: what Postgres says to `SELECT abalance FROM pgbench_accounts WHERE aid = …`.
//! See the manual, "Message Formats".

pub(crate) const TLS: u32 = 80_877_103;
pub(crate) const GSS: u32 = 80_877_104;
pub(crate) const CANCEL: u32 = 80_877_102;

/// The kind of the first message and how many bytes it takes, if so much has been heard.
pub(crate) fn next(heard: &[u8]) -> Option<(u8, usize)> {
    let (head, _) = heard.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    Some((head[0], usize::try_from(length).unwrap_or(usize::MAX).saturating_add(1)))
}

/// What is said after a login.
pub(crate) fn welcome() -> Vec<u8> {
    let mut said = message(b'R', &0_u32.to_be_bytes());
    for parameter in [
        "server_version\x0015.0\0",
        "server_encoding\0UTF8\0",
        "client_encoding\0UTF8\0",
        "standard_conforming_strings\0on\0",
        "integer_datetimes\0on\0",
    ] {
        said.extend(message(b'S', parameter.as_bytes()));
    }
    said.extend(message(b'K', &[0; 8]));
    said.extend(message(b'Z', b"I"));
    said
}

/// What is said to each kind of message.
pub(crate) struct Answers {
    parsed: Vec<u8>,
    bound: Vec<u8>,
    closed: Vec<u8>,
    parameters: Vec<u8>,
    columns: Vec<u8>,
    row: Vec<u8>,
    ready: Vec<u8>,
    whole: Vec<u8>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        // One column: its name, its place in its table, int4, in text.
        let mut column = vec![0, 1];
        column.extend(b"abalance\0");
        column.extend([0, 0, 0x40, 0, 0, 3, 0, 0, 0, 23, 0, 4, 0xff, 0xff, 0xff, 0xff, 0, 0]);
        let columns = message(b'T', &column);
        let mut row = message(b'D', &[0, 1, 0, 0, 0, 1, b'0']);
        row.extend(message(b'C', b"SELECT 1\0"));
        let ready = message(b'Z', b"I");
        Self {
            parsed: message(b'1', &[]),
            bound: message(b'2', &[]),
            closed: message(b'3', &[]),
            parameters: message(b't', &[0, 1, 0, 0, 0, 23]),
            whole: [&columns[..], &row, &ready].concat(),
            columns,
            row,
            ready,
        }
    }

    /// Appends the answer to one message.
    pub(crate) fn to(&self, kind: u8, message: &[u8], said: &mut Vec<u8>) {
        match kind {
            b'Q' => said.extend(&self.whole),
            b'P' => said.extend(&self.parsed),
            b'B' => said.extend(&self.bound),
            b'D' => {
                if message.get(5) == Some(&b'S') {
                    said.extend(&self.parameters);
                }
                said.extend(&self.columns);
            }
            b'E' => said.extend(&self.row),
            b'C' => said.extend(&self.closed),
            b'S' => said.extend(&self.ready),
            _ => {}
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("answers are short");
    let mut said = vec![kind];
    said.extend(length.to_be_bytes());
    said.extend(body);
    said
}
