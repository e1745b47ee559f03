//! Lives here: one pass over the tokens of a text that writes its template and collects the rest.
//! Does not live here: what a statement's words mean (`statement.rs`), SET (`set.rs`), spacing
//! (`template.rs`).

use crate::effects::{Class, Effects, Verbs};
use crate::keyword::{Keyword, name_of};
use crate::lexer::{Kind, Lexer, Token};
use crate::set::Owner;
use crate::settings::{SetConfig, Settings, mentions_temp};
use crate::shape::Shape;
use crate::statement::{Before, Statement};
use crate::template::{ELLIPSIS, Piece, Writer};

/// The rows of a VALUES list. Only the outermost list is followed.
#[derive(Clone, Copy, Debug)]
enum Rows {
    Off,
    /// A row may start here.
    Expected,
    /// Within a row that starts at byte `start` and closes at `depth`.
    Within {
        start: usize,
        depth: u32,
    },
    /// A row just ended; a comma would bring another.
    Ended,
}

pub(crate) struct Reader<'a> {
    pub(crate) lexer: Lexer<'a>,
    pub(crate) writer: Writer,
    pub(crate) before: Before,
    /// The last word or quoted identifier, for the name of a call.
    name: Option<Token<'a>>,
    pub(crate) statement: Statement,
    rows: Rows,
    /// Where the row before this one stands in the template.
    row: Option<(usize, usize)>,
    statements: u32,
    verbs: Verbs,
    class: Option<Class>,
    pub(crate) effects: Effects,
    pub(crate) settings: Settings,
}

fn is_sign(token: &Token<'_>) -> bool {
    token.is_operator("-") || token.is_operator("+")
}

/// Reads on over constants and parameters between commas up to `close`, and returns the first of
/// them. If there is anything else, `lexer` stays where it is.
fn constant_list<'a>(lexer: &mut Lexer<'a>, close: &str) -> Option<Token<'a>> {
    let mut ahead = lexer.clone();
    let mut first = None;
    loop {
        let mut token = ahead.next()?;
        let signed = is_sign(&token);
        while is_sign(&token) {
            token = ahead.next()?;
        }
        if !token.is_constant() && (signed || token.kind != Kind::Parameter) {
            return None;
        }
        first.get_or_insert(token);
        let after = ahead.next()?;
        if after.is_mark(close) {
            *lexer = ahead;
            return first;
        }
        if !after.is_mark(",") {
            return None;
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self {
            lexer: Lexer::new(sql),
            writer: Writer::new(sql.len()),
            before: Before::Start,
            name: None,
            statement: Statement::new(),
            rows: Rows::Off,
            row: None,
            statements: 0,
            verbs: Verbs::new(),
            class: None,
            effects: Effects::empty(),
            settings: Settings::default(),
        }
    }

    pub(crate) fn read(mut self) -> Shape {
        while let Some(token) = self.lexer.next() {
            self.token(token);
        }
        self.end_statement();
        Shape {
            template: self.writer.finish(),
            statements: self.statements,
            verbs: self.verbs,
            class: self.class.unwrap_or(Class::Other),
            effects: self.effects,
            settings: self.settings,
        }
    }

    /// The token after this one.
    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        self.lexer.clone().next()
    }

    /// Whether `token` is the mark of a template that was cut, met again in a template.
    pub(crate) fn is_cut_mark(&self, token: &Token<'_>) -> bool {
        token.text == ELLIPSIS.as_bytes() && self.peek().is_none()
    }

    fn end_statement(&mut self) {
        if self.statement.started {
            self.statement.starts_oddly(&mut self.verbs);
            self.class = self.class.max(Some(self.statement.class()));
            self.statement = Statement::new();
        }
        self.rows = Rows::Off;
        self.before = Before::Start;
    }

    fn token(&mut self, token: Token<'a>) {
        if token.is_mark(";") && self.statement.depth == 0 && self.statement.body == 0 {
            return self.end_statement();
        }
        if !self.statement.started {
            self.statement.started = true;
            if self.statements > 0 {
                self.writer.push(Piece::Separator, b";");
            }
            self.statements = self.statements.saturating_add(1);
        }
        if self.is_cut_mark(&token) {
            return self.writer.end();
        }
        let is_word = matches!(token.kind, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted);
        if !is_word && !token.is_mark("(") {
            self.statement.starts_oddly(&mut self.verbs);
        }
        let row_goes_on = matches!(self.rows, Rows::Within { .. })
            || matches!(self.rows, Rows::Expected) && token.is_mark("(")
            || matches!(self.rows, Rows::Ended) && token.is_mark(",");
        if !row_goes_on {
            self.rows = Rows::Off;
        }
        if self.before.keyword() == Some(Keyword::Password)
            && self.statement.is_about_role()
            && !token.is_word("null")
        {
            // PostgreSQL takes only a string here. A password without quotes is one all the same.
            return self.constant();
        }
        match token.kind {
            Kind::Word | Kind::Quoted | Kind::UnicodeQuoted => self.word(token),
            Kind::String | Kind::Number | Kind::Placeholder | Kind::Unterminated => self.constant(),
            Kind::Parameter => self.write(Piece::Parameter, token.text, Before::Parameter),
            Kind::Operator if is_sign(&token) && !self.before.is_operand() => self.signs(token),
            Kind::Operator => self.write(Piece::Operator, token.text, Before::Other),
            Kind::Stray => self.write(Piece::Loose, token.text, Before::Other),
            Kind::Punctuation => self.punctuation(token),
        }
    }

    fn write(&mut self, piece: Piece, text: &[u8], before: Before) {
        self.writer.push(piece, text);
        self.before = before;
    }

    pub(crate) fn constant(&mut self) {
        self.write(Piece::Constant, b"?", Before::Constant);
    }

    pub(crate) fn dot(&mut self) {
        self.write(Piece::Dot, b".", Before::Dot);
    }

    pub(crate) fn operator_equals(&mut self) {
        self.write(Piece::Operator, b"=", Before::Other);
    }

    /// A sign where no operand precedes: part of a constant, or an operator before anything else.
    fn signs(&mut self, sign: Token<'a>) {
        let mut ahead = self.lexer.clone();
        let mut more = 0_usize;
        loop {
            let here = ahead.clone();
            match ahead.next() {
                Some(token) if is_sign(&token) => more += 1,
                Some(token) if token.is_constant() => {
                    self.lexer = here;
                    return;
                }
                _ => break,
            }
        }
        self.write(Piece::Operator, sign.text, Before::Other);
        for _ in 0..more {
            if let Some(sign) = self.lexer.next() {
                self.write(Piece::Operator, sign.text, Before::Other);
            }
        }
    }

    /// Writes a word or a quoted identifier and nothing more.
    pub(crate) fn write_word(&mut self, token: &Token<'a>) -> Option<Keyword> {
        // Behind a dot every word is a name.
        let keyword = if self.before == Before::Dot { None } else { Keyword::of(token) };
        let reserved = keyword.filter(|keyword| keyword.is_reserved());
        // The bracket of ARRAY[…] sticks to it as it does to a name.
        let piece = match reserved {
            Some(keyword) if keyword != Keyword::Array => Piece::Keyword,
            _ => Piece::Name,
        };
        if token.kind == Kind::Word {
            self.writer.push_lower(piece, token.text);
        } else {
            self.writer.push(piece, token.text);
        }
        self.before = reserved.map_or(Before::Name(keyword), Before::Keyword);
        self.name = Some(*token);
        keyword
    }

    fn word(&mut self, token: Token<'a>) {
        let before = self.before;
        let keyword = self.write_word(&token);
        self.names(&token);
        self.effects |= self.statement.word(keyword, before, &self.lexer, &mut self.verbs);
        match keyword {
            Some(Keyword::Set) => {
                if let Some(owner) = self.owner_of_set(before) {
                    self.set_clause(owner);
                }
            }
            Some(Keyword::Reset) if self.statement.is_at(Keyword::Reset) => self.reset(),
            Some(Keyword::Values) if matches!(self.rows, Rows::Off) => {
                self.rows = Rows::Expected;
                self.row = None;
            }
            _ => {}
        }
    }

    /// Whose parameters a SET changes that stands after `before`; `None` for that of UPDATE and
    /// others that hold expressions or names.
    fn owner_of_set(&self, before: Before) -> Option<Owner> {
        if self.statement.is_at(Keyword::Set) || before == Before::Start {
            Some(Owner::Session)
        } else if self.statement.stores_settings() {
            Some(Owner::Stored)
        } else if self.statement.has_function_options() {
            Some(Owner::Function)
        } else {
            None
        }
    }

    /// What the mention of a name says by itself.
    fn names(&mut self, token: &Token<'a>) {
        if token.kind == Kind::UnicodeQuoted {
            if self.peek().is_some_and(|next| next.is_word("uescape")) {
                // It could be any name.
                self.effects |= Effects::SETTINGS | Effects::ADVISORY_LOCK | Effects::TEMP;
                self.settings.unknown = true;
            } else if name_of(token).is_some_and(|name| mentions_temp(name.as_bytes())) {
                self.effects |= Effects::TEMP;
            }
        } else {
            // The schema itself, or `pg_temp_3`.
            let name = token.text.strip_prefix(b"\"").unwrap_or(token.text);
            if starts_with(name, b"pg_temp") && matches!(name.get(7), None | Some(b'"' | b'_')) {
                self.effects |= Effects::TEMP;
            }
        }
    }

    /// What calling the name before an opening parenthesis does.
    fn call(&mut self) {
        let Some(name) = self.name else { return };
        let decoded;
        let name = match name.kind {
            Kind::Word => name.text,
            Kind::Quoted => &name.text[1..],
            _ => {
                decoded = name_of(&name).unwrap_or_default() + "\"";
                decoded.as_bytes()
            }
        };
        if starts_with(name, b"pg_advisory_lock") || starts_with(name, b"pg_try_advisory_lock") {
            self.effects |= Effects::ADVISORY_LOCK;
        } else if name.strip_suffix(b"\"").unwrap_or(name).eq_ignore_ascii_case(b"set_config") {
            let call = SetConfig::read(&self.lexer);
            if !call.local {
                self.effects |= Effects::SETTINGS;
            }
            if call.temp {
                self.effects |= Effects::TEMP;
            }
            match call.name {
                Some(name) => self.settings.add(&name, call.local),
                None => self.settings.unknown = true,
            }
        }
    }

    fn punctuation(&mut self, token: Token<'a>) {
        match token.text {
            b"(" => self.open(token, ")"),
            b"[" => self.open(token, "]"),
            b")" => {
                self.statement.depth = self.statement.depth.saturating_sub(1);
                self.write(Piece::Close, token.text, Before::Close);
                if let Rows::Within { start, depth } = self.rows
                    && depth == self.statement.depth
                {
                    self.end_row(start);
                }
            }
            b"]" => self.write(Piece::Close, token.text, Before::Close),
            b"." => self.dot(),
            b"::" => self.write(Piece::Cast, token.text, Before::Other),
            b"," => {
                self.write(Piece::Separator, token.text, Before::Other);
                if matches!(self.rows, Rows::Ended) {
                    self.rows = Rows::Expected;
                }
            }
            // A semicolon in a rule's or a function's body: a statement starts after it.
            b";" => self.write(Piece::Separator, token.text, Before::Start),
            _ => self.write(Piece::Loose, token.text, Before::Other),
        }
    }

    fn open(&mut self, token: Token<'a>, close: &str) {
        let parenthesis = close == ")";
        let called = parenthesis && matches!(self.before, Before::Name(_));
        if called {
            self.call();
        }
        let list = if called { None } else { constant_list(&mut self.lexer, close) };
        self.write(Piece::Open, token.text, Before::Open);
        let start = self.writer.len().saturating_sub(1);
        let Some(first) = list else {
            if parenthesis {
                if matches!(self.rows, Rows::Expected) {
                    self.rows = Rows::Within { start, depth: self.statement.depth };
                }
                self.statement.depth = self.statement.depth.saturating_add(1);
            }
            return;
        };
        if first.is_constant() {
            self.constant();
        } else {
            self.write(Piece::Parameter, first.text, Before::Parameter);
        }
        self.write(Piece::Close, close.as_bytes(), Before::Close);
        // More lists of the same kind say nothing more.
        loop {
            let mut ahead = self.lexer.clone();
            let follows = ahead.next().is_some_and(|token| token.is_mark(","))
                && ahead.next().is_some_and(|next| next.text == token.text)
                && constant_list(&mut ahead, close).is_some();
            if !follows {
                break;
            }
            self.lexer = ahead;
        }
        if matches!(self.rows, Rows::Expected) {
            self.end_row(start);
        }
    }

    /// A row of VALUES that starts at `start` is written. One like the row before it is taken back.
    fn end_row(&mut self, start: usize) {
        self.rows = Rows::Ended;
        if self.writer.is_full() {
            self.rows = Rows::Off;
        } else if !self.row.is_some_and(|row| self.writer.drop_repeated(row, start)) {
            self.row = Some((start, self.writer.len()));
        }
    }
}

fn starts_with(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start))
}
