//! Sees all that a source and a target see, and knows what may not happen:
//!
//! - J1. A model is in two requests at once, at the source or at the target.
//! - J2. An entry takes effect after a later one of its model, or data after later data.
//! - J3. A model is deleted that was never gone.
//! - J4. A model comes before its parent, or a parent goes before its children.
//! - J5. In the end the target has anything else than the source.
//!
//! Of J4 only that is judged of which whoever syncs has to be certain. A parent that was gone and is there again may be
//! thought to be gone still: nobody is told of it while the notification of it is under way.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A model by what its source calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Model {
    /// Its class.
    pub class: String,
    /// Its key.
    pub key: String,
}

impl Model {
    /// Of this class, with this key.
    pub fn new(class: &str, key: impl ToString) -> Self {
        Self { class: class.to_owned(), key: key.to_string() }
    }
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.class, self.key)
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where models come from.
    Source,
    /// Where they go.
    Target,
}

/// What the judge is told of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    /// Every change, when it happens. The data of a model are numbers, each larger than the one before.
    All,
    /// Only that a key that was gone never comes back. What was there in the end is told to `Judge::compare`.
    KeysAreNew,
}

/// How much the judge has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests at the source.
    pub fetches: u64,
    /// Requests at the target.
    pub pushes: u64,
    /// Models that the target took.
    pub upserts: u64,
    /// Models that it deleted.
    pub deletes: u64,
}

#[derive(Debug, Default)]
struct Seen {
    parent: Option<Model>,
    /// What the source has.
    data: Option<Value>,
    /// How often it was made.
    lives: u32,
    /// What the target has.
    pushed: Option<Value>,
    /// The latest data that it ever had.
    newest: Option<i64>,
    /// Whether it ever was at the target.
    has_come: bool,
    /// A child that came without it.
    came_before: Option<Model>,
    /// The latest entry that took effect, and whether it says that the model is gone.
    entry: Option<(i64, bool)>,
    fetches: u32,
    pushes: u32,
}

/// The judge.
#[derive(Debug)]
pub struct Judge {
    knows: Knows,
    models: BTreeMap<Model, Seen>,
    children: BTreeMap<Model, BTreeSet<Model>>,
    wrong: Vec<String>,
    counts: Counts,
}

impl Judge {
    /// One who has seen nothing yet.
    pub fn new(knows: Knows) -> Self {
        Self {
            knows,
            models: BTreeMap::new(),
            children: BTreeMap::new(),
            wrong: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// The source has a model, and has it like this from now on.
    pub fn is(&mut self, model: &Model, parent: Option<&Model>, data: Value) {
        self.belongs(model, parent);
        let seen = self.seen(model);
        seen.lives += u32::from(seen.data.is_none());
        seen.data = Some(data);
    }

    /// The source has a model no longer, nor those below it. Gives all of these.
    pub fn is_gone(&mut self, model: &Model) -> Vec<Model> {
        let mut gone = Vec::new();
        for child in self.children.get(model).cloned().unwrap_or_default() {
            gone.extend(self.is_gone(&child));
        }
        if self.seen(model).data.take().is_some() {
            gone.push(model.clone());
        }
        gone
    }

    /// What the source has.
    pub fn source(&self, model: &Model) -> Option<&Value> {
        self.models.get(model)?.data.as_ref()
    }

    /// A request about a model begins.
    pub fn begins(&mut self, place: Place, model: &Model) {
        let seen = self.models.entry(model.clone()).or_default();
        let (now, counted) = match place {
            Place::Source => (&mut seen.fetches, &mut self.counts.fetches),
            Place::Target => (&mut seen.pushes, &mut self.counts.pushes),
        };
        *now += 1;
        *counted += 1;
        if *now > 1 {
            let line = format!("J1: {model} is in {now} requests at once at the {place:?}");
            self.wrong.push(line);
        }
    }

    /// It ends: it is answered, or whoever asked is gone.
    pub fn ends(&mut self, place: Place, model: &Model) {
        let seen = self.seen(model);
        match place {
            Place::Source => seen.fetches = seen.fetches.saturating_sub(1),
            Place::Target => seen.pushes = seen.pushes.saturating_sub(1),
        }
    }

    /// The target takes a model, as an entry says.
    pub fn upserts(
        &mut self,
        model: &Model,
        parent: Option<&Model>,
        entry: Option<i64>,
        data: Value,
    ) {
        self.counts.upserts += 1;
        if parent.is_some() {
            self.belongs(model, parent);
        }
        self.enters(model, entry, false);
        let (knows, number) = (self.knows, data.as_i64());
        let seen = self.seen(model);
        let newest = seen.newest.filter(|newest| Some(*newest) > number);
        seen.newest = seen.newest.max(number);
        let (is_first, came_before) = (!seen.has_come, seen.came_before.take());
        seen.pushed = Some(data);
        seen.has_come = true;
        if let (Knows::All, Some(newest)) = (knows, newest) {
            let line =
                format!("J2: {model} goes back from {newest} to {}", number.unwrap_or_default());
            self.wrong.push(line);
        }
        if let Some(child) = came_before.filter(|_| is_first) {
            self.wrong.push(format!("J4: {child} came before its parent, {model}"));
        }
        let Some(parent) = self.models[model].parent.clone() else { return };
        let above = self.seen(&parent);
        if above.pushed.is_some() {
            return;
        }
        match knows {
            Knows::All if above.data.is_some() && above.lives == 1 => {
                self.wrong.push(format!("J4: {model} came before its parent, {parent}"));
            }
            // Whether the parent is still to come will be seen.
            Knows::KeysAreNew if !above.has_come => above.came_before = Some(model.clone()),
            _ => {}
        }
    }

    /// The target deletes a model, as an entry says.
    pub fn deletes(&mut self, model: &Model, entry: Option<i64>) {
        self.counts.deletes += 1;
        self.enters(model, entry, true);
        let knows = self.knows;
        let seen = self.seen(model);
        seen.pushed = None;
        let (is_there, lives) = (seen.data.is_some(), seen.lives);
        if knows == Knows::All && is_there && lives == 1 {
            self.wrong.push(format!("J3: {model} is deleted, and was never gone"));
        }
        if knows == Knows::All && (is_there || lives > 1) {
            return;
        }
        let children = self.children.get(model).into_iter().flatten();
        let left = children.filter(|child| self.target(child).is_some());
        let lines: Vec<_> = left
            .map(|child| format!("J4: {model} is deleted before {child}, which is below it"))
            .collect();
        self.wrong.extend(lines);
    }

    /// What the target has.
    pub fn target(&self, model: &Model) -> Option<&Value> {
        self.models.get(model)?.pushed.as_ref()
    }

    /// What has happened that may not.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// How much was seen.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Models of which the target has anything else than the source (J5).
    pub fn differences(&self) -> Vec<String> {
        let differs = |(_, seen): &(&Model, &Seen)| seen.data != seen.pushed;
        let told =
            |data: &Option<Value>| data.as_ref().map_or("nothing".to_owned(), Value::to_string);
        let told = |(model, seen): (&Model, &Seen)| {
            format!(
                "{model}: {} at the target, {} at the source",
                told(&seen.pushed),
                told(&seen.data)
            )
        };
        self.models.iter().filter(differs).map(told).collect()
    }

    /// The source has this in the end, and nothing else.
    pub fn compare(&mut self, source: BTreeMap<Model, Value>) -> Vec<String> {
        for seen in self.models.values_mut() {
            seen.data = None;
        }
        for (model, data) in source {
            self.seen(&model).data = Some(data);
        }
        self.differences()
    }

    fn seen(&mut self, model: &Model) -> &mut Seen {
        self.models.entry(model.clone()).or_default()
    }

    fn belongs(&mut self, model: &Model, parent: Option<&Model>) {
        let seen = self.models.entry(model.clone()).or_default();
        if seen.parent.as_ref() == parent {
            return;
        }
        if let Some(former) = std::mem::replace(&mut seen.parent, parent.cloned()) {
            self.children.entry(former).or_default().remove(model);
        }
        if let Some(parent) = parent {
            self.children.entry(parent.clone()).or_default().insert(model.clone());
        }
    }

    fn enters(&mut self, model: &Model, entry: Option<i64>, is_gone: bool) {
        let Some(entry) = entry else {
            self.wrong.push(format!("J2: a push of {model} does not say of which entry it is"));
            return;
        };
        let seen = self.seen(model);
        let line = match seen.entry {
            Some((later, _)) if later > entry => {
                Some(format!("J2: entry {entry} of {model} takes effect after {later}"))
            }
            Some((same, was_gone)) if same == entry && was_gone != is_gone => {
                Some(format!("J2: entry {entry} of {model} is both data and a deletion"))
            }
            _ => None,
        };
        if line.is_none() {
            seen.entry = Some((entry, is_gone));
        }
        self.wrong.extend(line);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parent() -> Model {
        Model::new("Metric", 1)
    }

    fn child() -> Model {
        Model::new("UsageLimit", 2)
    }

    /// A source with a parent and its child, at a target that has nothing.
    fn family() -> Judge {
        let mut judge = Judge::new(Knows::All);
        judge.is(&parent(), None, json!(1));
        judge.is(&child(), Some(&parent()), json!(1));
        judge
    }

    /// The same at a target that has both.
    fn synced() -> Judge {
        let mut judge = family();
        judge.upserts(&parent(), None, Some(1), json!(1));
        judge.upserts(&child(), None, Some(2), json!(1));
        assert!(judge.wrong().is_empty() && judge.differences().is_empty());
        judge
    }

    fn is_told(judge: &Judge, rule: &str) {
        let told = judge.wrong();
        assert!(told.len() == 1 && told[0].starts_with(rule), "{told:?}");
    }

    #[test]
    fn two_requests_at_once_are_told_and_two_in_turn_are_not() {
        let mut judge = family();
        for place in [Place::Source, Place::Target] {
            judge.begins(place, &parent());
            judge.begins(place, &child());
            judge.ends(place, &parent());
            judge.begins(place, &parent());
            judge.ends(place, &parent());
            judge.ends(place, &child());
        }
        assert!(judge.wrong().is_empty());
        judge.begins(Place::Target, &child());
        judge.begins(Place::Source, &child());
        assert!(judge.wrong().is_empty(), "a fetch during a push is allowed");
        judge.begins(Place::Target, &child());
        is_told(&judge, "J1");
    }

    #[test]
    fn an_older_entry_is_told_and_the_same_again_is_not() {
        let mut judge = synced();
        judge.upserts(&child(), None, Some(2), json!(1));
        judge.upserts(&child(), None, Some(5), json!(2));
        assert!(judge.wrong().is_empty());
        judge.upserts(&child(), None, Some(4), json!(2));
        is_told(&judge, "J2");
        let mut judge = synced();
        judge.is_gone(&child());
        judge.deletes(&child(), Some(2));
        is_told(&judge, "J2");
        let mut judge = synced();
        judge.upserts(&child(), None, None, json!(1));
        is_told(&judge, "J2");
    }

    #[test]
    fn older_data_are_told_even_in_a_later_entry() {
        let mut judge = synced();
        judge.is(&child(), Some(&parent()), json!(2));
        judge.upserts(&child(), None, Some(3), json!(2));
        judge.is_gone(&child());
        judge.deletes(&child(), Some(4));
        assert!(judge.wrong().is_empty());
        judge.upserts(&child(), None, Some(5), json!(1));
        is_told(&judge, "J2");
    }

    #[test]
    fn a_deletion_of_what_was_never_gone_is_told() {
        let mut judge = synced();
        judge.deletes(&child(), Some(3));
        is_told(&judge, "J3");
        // Once it was gone, the deletion may come when it is there again.
        let mut judge = synced();
        judge.is_gone(&child());
        judge.is(&child(), Some(&parent()), json!(2));
        judge.deletes(&child(), Some(3));
        assert!(judge.wrong().is_empty());
        assert_eq!(judge.differences().len(), 1);
    }

    #[test]
    fn a_child_before_its_parent_is_told() {
        let mut judge = family();
        judge.upserts(&child(), None, Some(1), json!(1));
        is_told(&judge, "J4");
        // Of a parent that was gone nobody may know that it is there again.
        let mut judge = family();
        judge.is_gone(&parent());
        judge.is(&parent(), None, json!(2));
        judge.is(&child(), Some(&parent()), json!(2));
        judge.upserts(&child(), None, Some(1), json!(2));
        assert!(judge.wrong().is_empty());
    }

    #[test]
    fn a_parent_deleted_before_its_child_is_told() {
        let mut judge = synced();
        assert_eq!(judge.is_gone(&parent()), [child(), parent()]);
        judge.deletes(&parent(), Some(3));
        is_told(&judge, "J4");
        let mut judge = synced();
        judge.is_gone(&parent());
        judge.deletes(&child(), Some(3));
        judge.deletes(&parent(), Some(4));
        assert!(judge.wrong().is_empty() && judge.differences().is_empty());
    }

    #[test]
    fn without_the_source_a_parent_that_comes_later_is_told() {
        let mut judge = Judge::new(Knows::KeysAreNew);
        judge.upserts(&child(), Some(&parent()), Some(1), json!(1));
        // It may have been gone when it was asked for.
        assert!(judge.wrong().is_empty());
        judge.upserts(&parent(), None, Some(2), json!(1));
        is_told(&judge, "J4");
        let mut judge = Judge::new(Knows::KeysAreNew);
        judge.upserts(&parent(), None, Some(1), json!(1));
        judge.upserts(&child(), Some(&parent()), Some(2), json!(1));
        judge.upserts(&parent(), None, Some(3), json!(2));
        assert!(judge.wrong().is_empty());
        judge.deletes(&parent(), Some(4));
        is_told(&judge, "J4");
    }

    #[test]
    fn what_the_target_lacks_has_too_much_or_has_otherwise_is_told() {
        let mut judge = synced();
        judge.is(&child(), Some(&parent()), json!(2));
        assert_eq!(judge.differences(), ["UsageLimit 2: 1 at the target, 2 at the source"]);
        judge.is_gone(&parent());
        assert_eq!(judge.differences().len(), 2);
        let mut judge = family();
        assert_eq!(judge.differences().len(), 2);
        assert_eq!(judge.compare(BTreeMap::new()), Vec::<String>::new());
    }
}
