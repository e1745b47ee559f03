//! The judgement on a spec that is about to be stored.
//!
//! Every match that is not optional needs one alternative that the database meets as specified. The others
//! may name what does not exist yet: alternatives are for a migration still to come.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, Obstacle};
use crate::claim::{Claim, ClaimAlternative, ClaimColumn};
use crate::compare::{Nullability, mismatch};
use crate::identifier::Identifier;
use crate::spec::{Spec, Target};

/// Beyond this many only the count is told.
const MAX_LISTED: usize = 100;

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// One item a claim, nested as claims, alternatives, columns, alternatives; `{}` where all is well. It ends
    /// with the last claim that `unmet` speaks of.
    pub claims: Vec<Value>,
    /// The same, flat: at most 100.
    pub unmet: Vec<Refused>,
    /// How many there are in all.
    pub total: usize,
}

/// One thing the database does not provide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Where the spec asks for it, relative to the document.
    pub pointer: String,
    /// The table.
    pub path: String,
    /// The column, if the table exists.
    pub field: Option<String>,
    /// `path`, `name`, `type`, `min_length` or `is_nullable`; for a notification also `kind` or `replica_identity`.
    pub property: &'static str,
    /// What the spec asks for.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// A way out.
    pub hint: String,
}

/// Judges the claims a spec was just expanded to, against the catalog they were expanded from.
pub fn review(spec: &Spec, claims: &[Claim], catalog: &Catalog) -> Result<(), Refusal> {
    let mut nested = Vec::new();
    let mut unmet = Vec::new();
    let mut total = 0;
    for claim in claims {
        let mut found = Vec::new();
        let node = claim_node(spec, claim, catalog, &mut found);
        total += found.len();
        if unmet.len() < MAX_LISTED {
            nested.push(node);
            unmet.append(&mut found);
        }
    }
    for (item, wanted) in spec.matches.iter().enumerate() {
        if let [one] = &wanted.alternatives[..]
            && let Target::AllTables(schema) = &one.path
            && !wanted.optional
        {
            let pointer = format!("#/match/{item}/path");
            for (message, refused) in schema_refusals(spec, schema, catalog, &pointer) {
                total += 1;
                if unmet.len() < MAX_LISTED {
                    let property = refused.property;
                    nested.push(json!({"alternatives": [{property: [message]}]}));
                    unmet.push(refused);
                }
            }
        }
    }
    if unmet.is_empty() {
        return Ok(());
    }
    unmet.truncate(MAX_LISTED);
    Err(Refusal { claims: nested, unmet, total })
}

/// What a path `schema.*` asks for in vain: the schema itself or, for notifications, that the changes of each of its
/// tables can be told. With the message of each.
fn schema_refusals(
    spec: &Spec,
    schema: &Identifier,
    catalog: &Catalog,
    pointer: &str,
) -> Vec<(String, Refused)> {
    if !catalog.schemas.contains(schema) {
        let path = format!("{schema}.*");
        let message = format!("path: `{path}`: specified schema does not exist in the database.");
        let refused = Refused {
            pointer: pointer.to_owned(),
            path,
            field: None,
            property: "path",
            expected: "a schema".to_owned(),
            actual: "missing".to_owned(),
            hint: format!("Create the schema {schema} first, or mend its name."),
        };
        return vec![(message, refused)];
    }
    if spec.notifications.is_none() {
        return Vec::new();
    }
    catalog
        .relations_in(schema)
        .filter_map(|name| Some((name, catalog.relation(name)?)))
        .filter(|(_, relation)| !relation.log.as_ref().is_some_and(|log| log.is_partition))
        .filter_map(|(name, relation)| Some((name, relation.obstacle()?)))
        // Views are not among the tables of a schema whose changes one could expect.
        .filter(|(_, obstacle)| obstacle.is_table())
        .map(|(name, obstacle)| untold(&name.to_string(), obstacle, pointer))
        .collect()
}

/// A table whose changes can't be told, with its message.
fn untold(path: &str, obstacle: &Obstacle, pointer: &str) -> (String, Refused) {
    let (expected, actual) = (obstacle.expected(), obstacle.actual());
    let message =
        format!("path: `{path}`: its changes can't be told: expected {expected}, found {actual}.");
    let refused = Refused {
        pointer: pointer.to_owned(),
        path: path.to_owned(),
        field: None,
        property: obstacle.property(),
        expected: expected.to_owned(),
        actual,
        hint: obstacle.hint(path),
    };
    (message, refused)
}

fn claim_node(spec: &Spec, claim: &Claim, catalog: &Catalog, found: &mut Vec<Refused>) -> Value {
    if claim.optional {
        return json!({});
    }
    let several = claim.alternatives.len() > 1;
    let mut nodes = Vec::with_capacity(claim.alternatives.len());
    let mut refused = Vec::new();
    for (index, alternative) in claim.alternatives.iter().enumerate() {
        let mut pointer = format!("#/match/{}", claim.key.item);
        if several || written_as_alternatives(spec, claim.key.item) {
            pointer.push_str(&format!("/alternatives/{index}"));
        }
        let before = refused.len();
        nodes.push(alternative_node(alternative, claim.told, catalog, &pointer, &mut refused));
        if refused.len() == before {
            return json!({});
        }
    }
    found.append(&mut refused);
    json!({"alternatives": nodes})
}

/// A sole alternative is read the same whether it stood in `alternatives` or not, so the short form's
/// pointer is given: it is how the spec is shown when it is read back.
fn written_as_alternatives(spec: &Spec, item: usize) -> bool {
    spec.matches.get(item).is_some_and(|item| item.alternatives.len() > 1)
}

fn alternative_node(
    alternative: &ClaimAlternative,
    told: bool,
    catalog: &Catalog,
    pointer: &str,
    refused: &mut Vec<Refused>,
) -> Value {
    let path = alternative.relation.to_string();
    let relation = catalog.relation(&alternative.relation);
    let mut node = Map::new();
    if relation.is_none() {
        refused.push(Refused {
            pointer: format!("{pointer}/path"),
            path: path.clone(),
            field: None,
            property: "path",
            expected: "a table".to_owned(),
            actual: "missing".to_owned(),
            hint: near_table(alternative, catalog),
        });
        let message = format!("path: `{path}`: specified table does not exist in the database.");
        node.insert("path".to_owned(), json!([message]));
    }
    if told && let Some(obstacle) = relation.and_then(|relation| relation.obstacle()) {
        let (message, own) = untold(&path, obstacle, &format!("{pointer}/path"));
        node.insert(own.property.to_owned(), json!([message]));
        refused.push(own);
    }
    let columns: Vec<Value> = alternative
        .columns
        .iter()
        .map(|column| {
            let pointer = format!("{pointer}/fields/{}", column.field);
            let mut own = Vec::new();
            let node = column_node(column, alternative, catalog, &pointer, &mut own);
            // Of a table that is not there, saying so once is enough in the flat list.
            if relation.is_some() {
                refused.append(&mut own);
            }
            node
        })
        .collect();
    if columns.iter().any(|column| column != &json!({})) {
        node.insert("columns".to_owned(), Value::Array(columns));
    }
    Value::Object(node)
}

fn column_node(
    column: &ClaimColumn,
    alternative: &ClaimAlternative,
    catalog: &Catalog,
    pointer: &str,
    refused: &mut Vec<Refused>,
) -> Value {
    if column.optional {
        return json!({});
    }
    let path = alternative.relation.to_string();
    let relation = catalog.relation(&alternative.relation);
    let mut nodes = Vec::with_capacity(column.alternatives.len());
    for (index, wanted) in column.alternatives.iter().enumerate() {
        let found = relation.and_then(|relation| relation.column(&wanted.name));
        let Some((property, expected, actual)) = mismatch(wanted, found, Nullability::Exact) else {
            refused.clear();
            return json!({});
        };
        let field = wanted.name.to_string();
        let what = if property == "name" {
            format!("specified field `{field}` does not exist in the database.")
        } else {
            format!("specified value `{expected}` does not match existing column value `{actual}`.")
        };
        let mut node = Map::new();
        node.insert(
            property.to_owned(),
            json!([format!("path: `{path}`, field: `{field}`: {what}")]),
        );
        nodes.push(Value::Object(node));
        let mut at = pointer.to_owned();
        if column.alternatives.len() > 1 {
            at.push_str(&format!("/alternatives/{index}"));
        }
        let hint = match property {
            "name" => near_column(&field, relation.map_or(&[][..], |r| &r.columns[..])),
            _ => {
                format!("Claim {property} {actual}, or leave {property} out to take what is there.")
            }
        };
        let (path, field) = (path.clone(), Some(field));
        refused.push(Refused { pointer: at, path, field, property, expected, actual, hint });
    }
    json!({"alternatives": nodes})
}

fn near_table(alternative: &ClaimAlternative, catalog: &Catalog) -> String {
    let name = &alternative.relation;
    let folded = name.to_string().to_lowercase();
    let near = catalog.relations.keys().find(|other| other.to_string().to_lowercase() == folded);
    match near {
        Some(near) => format!("Did you mean {near}? Names are compared letter for letter."),
        None if catalog.schemas.contains(&name.schema) => {
            format!(
                "There is no such table in the schema {}; create it first or mend the name.",
                name.schema
            )
        }
        None => format!("There is no schema {}; create it first or mend the name.", name.schema),
    }
}

fn near_column(field: &str, columns: &[crate::catalog::Column]) -> String {
    match columns.iter().find(|c| c.name.to_string().eq_ignore_ascii_case(field)) {
        Some(near) => format!("Did you mean {}? Names are compared letter for letter.", near.name),
        None => "Add the column first, mend its name, or make the field optional.".to_owned(),
    }
}
