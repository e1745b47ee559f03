//! A spec written back as tersely as it can be said.

use serde_json::{Map, Value, json};

use crate::notification::{ALL, Channel, EventKind, Notification};
use crate::spec::{Field, FieldAlternative, MatchAlternative, Spec};

/// The document of `spec`: `{"match": […]}`, of notifications also `"channels": […]`. Reading it gives the same spec
/// again (tests `a_contracted_spec_reads_back_the_same` and `contracted_notifications_read_back_the_same`).
pub fn contract(spec: &Spec) -> Value {
    let matches: Vec<Value> = spec
        .matches
        .iter()
        .enumerate()
        .map(|(position, item)| {
            let mut map = match &item.alternatives[..] {
                [one] => match_alternative(one),
                several => {
                    let list =
                        several.iter().map(|a| Value::Object(match_alternative(a))).collect();
                    Map::from_iter([("alternatives".to_owned(), Value::Array(list))])
                }
            };
            mark_optional(&mut map, item.optional);
            if let Some(notifications) = &spec.notifications {
                map.extend(notifications.items.get(position).into_iter().flat_map(notification));
            }
            Value::Object(map)
        })
        .collect();
    match &spec.notifications {
        None => json!({ "match": matches }),
        Some(notifications) => {
            let channels: Vec<Value> = notifications.channels.iter().map(channel).collect();
            json!({ "match": matches, "channels": channels })
        }
    }
}

fn notification(notification: &Notification) -> [(String, Value); 2] {
    let events: Vec<&str> = if notification.events.len() == EventKind::ALL.len() {
        vec![ALL]
    } else {
        notification.events.iter().map(|event| event.as_str()).collect()
    };
    [("events".to_owned(), json!(events)), ("channels".to_owned(), json!(notification.channels))]
}

fn channel(channel: &Channel) -> Value {
    let mut map = channel.configuration.clone();
    map.insert("type".to_owned(), json!(channel.kind));
    if channel.name != channel.kind.as_str() {
        map.insert("name".to_owned(), json!(channel.name));
    }
    Value::Object(map)
}

fn match_alternative(alternative: &MatchAlternative) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("path".to_owned(), json!(alternative.path.to_string()));
    if !alternative.fields.is_empty() {
        map.insert("fields".to_owned(), alternative.fields.iter().map(field).collect());
    }
    map
}

fn field(field: &Field) -> Value {
    let (mut map, optional) = match field {
        Field::All { optional } => (Map::from_iter([("name".to_owned(), json!("*"))]), *optional),
        Field::Named { alternatives, optional } => match &alternatives[..] {
            [one] => (field_alternative(one), *optional),
            several => {
                let list = several.iter().map(|a| shorten(field_alternative(a))).collect();
                (Map::from_iter([("alternatives".to_owned(), Value::Array(list))]), *optional)
            }
        },
    };
    mark_optional(&mut map, optional);
    shorten(map)
}

fn field_alternative(alternative: &FieldAlternative) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("name".to_owned(), json!(alternative.name.to_string()));
    if let Some(data_type) = &alternative.data_type {
        map.insert("type".to_owned(), json!(data_type));
    }
    if let Some(min_length) = alternative.min_length {
        map.insert("min_length".to_owned(), json!(min_length));
    }
    if let Some(is_nullable) = alternative.is_nullable {
        map.insert("is_nullable".to_owned(), json!(is_nullable));
    }
    map
}

/// An object with a name and nothing else is said by the name.
fn shorten(mut map: Map<String, Value>) -> Value {
    match (map.len(), map.remove("name")) {
        (1, Some(name)) => name,
        (_, name) => {
            map.extend(name.map(|name| ("name".to_owned(), name)));
            Value::Object(map)
        }
    }
}

fn mark_optional(map: &mut Map<String, Value>, optional: bool) {
    if optional {
        map.insert("optional".to_owned(), Value::Bool(true));
    }
}
