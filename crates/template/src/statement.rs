//! Lives here: what one statement does, judged by its words as they come: its class, its effects.
//! Does not live here: the template, and the grammar of SET.

use crate::effects::{Class, Effects, Verbs};
use crate::keyword::Keyword;
use crate::lexer::{Kind, Lexer};

/// What stands before a token, as far as anything depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing, or a semicolon.
    Start,
    /// A keyword that is no name.
    Keyword(Keyword),
    /// A name; it may be an unreserved keyword.
    Name(Option<Keyword>),
    Constant,
    Parameter,
    Open,
    Close,
    Dot,
    Other,
}

impl Before {
    pub(crate) fn keyword(self) -> Option<Keyword> {
        match self {
            Self::Keyword(keyword) => Some(keyword),
            Self::Name(keyword) => keyword,
            _ => None,
        }
    }

    /// Whether a sign that follows is a subtraction rather than a part of a number.
    pub(crate) fn is_operand(self) -> bool {
        matches!(self, Self::Name(_) | Self::Constant | Self::Parameter | Self::Close)
    }
}

/// One statement while it is read.
#[derive(Debug)]
pub(crate) struct Statement {
    /// A token of it was seen.
    pub(crate) started: bool,
    /// Its first word was seen, or something that cannot come before it.
    judged: bool,
    verb: Option<Keyword>,
    /// The first word after the verb and after OR REPLACE: what kind of object it is about.
    object: Option<Keyword>,
    object_seen: bool,
    /// Open parentheses.
    pub(crate) depth: u32,
    /// Open parentheses at its verb.
    lead: u32,
    /// Open BEGIN ATOMIC, and BEGIN or CASE within: semicolons there end no statement.
    pub(crate) body: u32,
    class: Class,
    copy_directed: bool,
    /// After CREATE or INTO, and words that may stand between it and TEMP.
    temp_may_follow: bool,
}

impl Statement {
    pub(crate) fn new() -> Self {
        Self {
            started: false,
            judged: false,
            verb: None,
            object: None,
            object_seen: false,
            depth: 0,
            lead: 0,
            body: 0,
            class: Class::Other,
            copy_directed: false,
            temp_may_follow: false,
        }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// It starts with something other than a word or an opening parenthesis.
    pub(crate) fn starts_oddly(&mut self, verbs: &mut Verbs) {
        if !self.judged {
            self.judged = true;
            verbs.push(Verbs::UNKNOWN);
        }
    }

    /// Whether `verb` is its verb, and no further word was seen.
    pub(crate) fn is_at(&self, verb: Keyword) -> bool {
        self.verb == Some(verb) && !self.object_seen
    }

    /// Whether it is CREATE or ALTER of a role.
    pub(crate) fn is_about_role(&self) -> bool {
        use Keyword::*;
        matches!(self.verb, Some(Create | Alter))
            && matches!(self.object, Some(Role | User | Group))
    }

    /// Whether a SET here stores parameters for later sessions.
    pub(crate) fn stores_settings(&self) -> bool {
        use Keyword::*;
        self.depth == 0
            && self.verb == Some(Alter)
            && matches!(self.object, Some(Role | User | Database | System))
    }

    /// Whether a SET here is an option of a function.
    pub(crate) fn has_function_options(&self) -> bool {
        use Keyword::*;
        self.depth == 0
            && self.body == 0
            && matches!(self.verb, Some(Create | Alter))
            && matches!(self.object, Some(Function | Procedure | Routine))
    }

    /// Takes in a word or a quoted identifier, which has no keyword; `rest` comes after it.
    pub(crate) fn word(
        &mut self,
        keyword: Option<Keyword>,
        before: Before,
        rest: &Lexer<'_>,
        verbs: &mut Verbs,
    ) -> Effects {
        use Keyword::*;
        let temp_may_follow = std::mem::take(&mut self.temp_may_follow);
        if !self.judged {
            self.judged = true;
            self.lead = self.depth;
            let known = keyword.and_then(|keyword| Some((keyword, base_class(keyword)?)));
            let Some((verb, class)) = known else {
                verbs.push(Verbs::UNKNOWN);
                return Effects::empty();
            };
            verbs.push(verb.text());
            self.verb = Some(verb);
            self.class = class;
            self.temp_may_follow = verb == Create;
            return verb_effects(verb, rest);
        }
        let skipped = matches!(keyword, Some(Or | Replace | Local | Global | Temp | Temporary));
        if !self.object_seen && !skipped {
            self.object = keyword;
            self.object_seen = true;
        }
        let Some(keyword) = keyword else { return Effects::empty() };
        match keyword {
            Create => self.temp_may_follow = true,
            Or | Replace | Local | Global => self.temp_may_follow = temp_may_follow,
            Temp | Temporary if temp_may_follow => return Effects::TEMP,
            Into if !matches!(before.keyword(), Some(Insert | Merge | As)) => {
                self.temp_may_follow = true;
                if matches!(self.verb, Some(Select | With | Values | Table)) {
                    self.class = Class::Ddl;
                }
            }
            Insert | Update | Delete | Merge if self.changes_rows(before) => {
                self.class = self.class.max(Class::Dml);
            }
            From | To
                if self.verb == Some(Copy) && self.depth == self.lead && !self.copy_directed =>
            {
                self.copy_directed = true;
                let direction = if keyword == From { Class::Dml } else { Class::Dql };
                self.class = if self.class == Class::Other { direction } else { self.class };
            }
            Hold if self.verb == Some(Declare) && before.keyword() == Some(With) => {
                return Effects::HOLD;
            }
            Atomic if self.has_function_options() && before.keyword() == Some(Begin) => {
                self.body = 1;
            }
            Begin | Case if self.body > 0 => self.body += 1,
            End if self.body > 0 => self.body -= 1,
            _ => {}
        }
        Effects::empty()
    }

    /// Whether INSERT and its like, standing after `before`, start a part of WITH or COPY.
    fn changes_rows(&self, before: Before) -> bool {
        use Keyword::*;
        match self.verb {
            // FOR UPDATE and FOR NO KEY UPDATE only lock.
            Some(With) if self.depth == self.lead => {
                !matches!(before.keyword(), Some(For | Key | As))
            }
            Some(With | Copy) => before == Before::Open,
            _ => false,
        }
    }
}

/// The class of a statement by its verb alone, `None` if it is no verb.
fn base_class(verb: Keyword) -> Option<Class> {
    use Keyword::*;
    match verb {
        Select | Values | Table | Show | With => Some(Class::Dql),
        Insert | Update | Delete | Merge | Truncate => Some(Class::Dml),
        Create | Alter | Drop | Comment | Grant | Revoke | Security | Import | Reassign
        | Refresh | Reindex | Cluster => Some(Class::Ddl),
        Abort | Analyze | Begin | Call | Checkpoint | Close | Commit | Copy | Deallocate
        | Declare | Discard | Do | End | Execute | Explain | Fetch | Listen | Load | Lock
        | Move | Notify | Prepare | Release | Reset | Rollback | Savepoint | Set | Start
        | Unlisten | Vacuum | Wait => Some(Class::Other),
        _ => None,
    }
}

/// The effects of a statement by its verb. Those of SET and RESET are found with their names.
fn verb_effects(verb: Keyword, rest: &Lexer<'_>) -> Effects {
    use Keyword::*;
    match verb {
        Begin | Start | Commit | End | Rollback | Abort | Savepoint | Release => {
            Effects::TRANSACTION
        }
        Listen => Effects::LISTEN,
        Deallocate => Effects::DEALLOCATE,
        Discard => Effects::DISCARD,
        Load => Effects::LOAD,
        Prepare => {
            let mut rest = rest.clone();
            // A prepared statement may be called `transaction` as well.
            let transaction = rest.next().is_some_and(|token| token.is_word("transaction"))
                && rest.next().is_some_and(|token| token.kind == Kind::String);
            if transaction { Effects::TRANSACTION } else { Effects::PREPARE }
        }
        _ => Effects::empty(),
    }
}
