//! The members of a JSON object, each mistake with a pointer to it. By hand and not derived, so that all mistakes are
//! told at once.

use std::time::Duration;

use serde_json::{Map, Value};

/// A mistake: what is wrong, and a pointer to it from the object that was read.
pub(crate) type Mistake = (String, String);

/// The members that are not read yet, and the mistakes so far.
pub(crate) struct Fields<'a> {
    left: Map<String, Value>,
    pointer: String,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Fields<'a> {
    /// Of what should be an object; otherwise of an empty one.
    pub(crate) fn of(value: &Value, pointer: &str, mistakes: &'a mut Vec<Mistake>) -> Self {
        let mut fields = Self { left: Map::new(), pointer: pointer.to_owned(), mistakes };
        match value.as_object() {
            Some(object) => fields.left.clone_from(object),
            None => {
                fields.mistakes.push(("this has to be an object".to_owned(), pointer.to_owned()))
            }
        }
        fields
    }

    /// Notes a mistake of a member.
    pub(crate) fn wrong(&mut self, name: &str, message: impl Into<String>) {
        let pointer = format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"));
        self.mistakes.push((message.into(), pointer));
    }

    /// Notes a mistake further below, at a pointer without its first slash.
    pub(crate) fn wrong_at(&mut self, below: &str, message: impl Into<String>) {
        self.mistakes.push((message.into(), format!("{}/{below}", self.pointer)));
    }

    /// Notes a mistake of the object.
    pub(crate) fn wrong_here(&mut self, message: impl Into<String>) {
        self.mistakes.push((message.into(), self.pointer.clone()));
    }

    /// A member, as it is; null is as good as none.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.wrong(name, "this has to be a string");
                None
            }
        }
    }

    /// A text that has to be there.
    pub(crate) fn needed_text(&mut self, name: &str) -> Option<String> {
        if self.left.get(name).is_none_or(Value::is_null) {
            self.wrong_here(format!("{name} is missing"));
        }
        self.text(name)
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &str, least: u64, most: u64, default: u64) -> u64 {
        let Some(value) = self.take(name) else { return default };
        match value.as_u64().filter(|number| (least..=most).contains(number)) {
            Some(number) => number,
            None => {
                self.wrong(name, format!("this has to be a whole number from {least} to {most}"));
                default
            }
        }
    }

    /// An object below this one.
    pub(crate) fn object<T>(&mut self, name: &str, read: impl FnOnce(Fields<'_>) -> T) -> T {
        let value = self.take(name).unwrap_or_else(|| Value::Object(Map::new()));
        read(Fields::of(&value, &format!("{}/{name}", self.pointer), self.mistakes))
    }

    /// All members that are left, for an object whose names are free.
    pub(crate) fn rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.left)
    }

    /// Whatever is left is not known.
    pub(crate) fn end(mut self) {
        for name in self.rest().keys() {
            self.wrong(name, format!("{name} is not known here"));
        }
    }
}

/// Seconds from a JSON number, within bounds.
pub(crate) fn seconds(value: &Value, least: f64, most: f64) -> Option<Duration> {
    let number = value.as_f64().filter(|number| (least..=most).contains(number))?;
    Duration::try_from_secs_f64(number).ok()
}

/// Seconds as they are written: whole ones without a fraction.
pub(crate) fn seconds_json(duration: Duration) -> Value {
    if duration.subsec_nanos() == 0 {
        duration.as_secs().into()
    } else {
        duration.as_secs_f64().into()
    }
}
