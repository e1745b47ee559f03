//! What somebody sends to say that a model may have changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::class::Classes;
use super::zync;
use crate::sync::ids::TenantId;
use crate::sync::work::Notified;

/// Why a notification names no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// The tenant has no class of the name in `type`. These it has.
    #[error("there is no such type: types are {}", .0.join(", "))]
    Unknown(Vec<String>),
    /// Fields are missing or wrong. Each with what is to be said after its name, such as "is missing".
    #[error("{}", sentences(.0))]
    Fields(Vec<(String, &'static str)>),
}

fn sentences(fields: &[(String, &'static str)]) -> String {
    let each: Vec<String> = fields.iter().map(|(name, what)| format!("{name} {what}")).collect();
    each.join(", ")
}

/// Reads a notification of a tenant that has the classes of Zync and no others.
pub fn read(tenant: TenantId, body: &Map<String, Value>) -> Result<Notified, ClassError> {
    zync::classes().read(tenant, body)
}

impl Classes {
    /// Reads a notification. Numbers may be written as texts. What the class doesn't need is not looked at.
    pub fn read(
        &self,
        tenant: TenantId,
        body: &Map<String, Value>,
    ) -> Result<Notified, ClassError> {
        let said = |name: &str| body.get(name).filter(|value| !value.is_null());
        let class = match said("type") {
            Some(Value::String(name)) => {
                let known = || self.names().map(str::to_owned).collect();
                self.get(name).ok_or_else(|| ClassError::Unknown(known()))?
            }
            Some(_) => {
                return Err(ClassError::Fields(vec![("type".to_owned(), "has to be a text")]));
            }
            None => return Err(ClassError::Fields(vec![("type".to_owned(), "is missing")])),
        };
        let (mut values, mut data, mut wrong) = (BTreeMap::new(), Map::new(), Vec::new());
        for field in &class.fields {
            match said(&field.name).map(|value| field.kind.read(value)) {
                Some(Ok(text)) => {
                    if class.is_other(&field.name) {
                        data.insert(field.name.clone(), field.kind.write(&text));
                    }
                    values.insert(field.name.as_str(), text);
                }
                Some(Err(what)) => wrong.push((field.name.clone(), what)),
                None if field.is_required => wrong.push((field.name.clone(), "is missing")),
                None => {}
            }
        }
        match class.named(&values) {
            Some(model) if wrong.is_empty() => Ok(Notified {
                tenant,
                model,
                parent: class.parent(&values),
                data: (!data.is_empty()).then_some(data),
            }),
            _ => Err(ClassError::Fields(wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sync::work::Named;

    fn said(body: &Value) -> Result<Notified, ClassError> {
        read(TenantId(16), body.as_object().expect("an object"))
    }

    fn named(class: &str, key: &str) -> Named {
        Named { class: class.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn a_notification_names_a_model_and_its_parent() {
        let application = Notified {
            tenant: TenantId(16),
            model: named("Application", "3"),
            parent: Some(named("Service", "5")),
            data: None,
        };
        let zync = json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": 16});
        assert_eq!(said(&zync), Ok(application.clone()));
        let texts = json!({"type": "Application", "id": "3", "service_id": "05", "more": {}});
        assert_eq!(said(&texts), Ok(application));
        let service = said(&json!({"type": "Service", "id": 5})).expect("it is right");
        assert_eq!((service.model, service.parent), (named("Service", "5"), None));
        let limit = json!({"type": "UsageLimit", "id": 9, "metric_id": 8, "plan_id": "7"});
        let limit = said(&limit).expect("it is right");
        assert_eq!(limit.parent, Some(named("Metric", "8")));
        assert_eq!(limit.data.map(Value::Object), Some(json!({"plan_id": 7})));
        let client = json!({"type": "Client", "client_id": "abc", "service_id": 5});
        assert_eq!(said(&client).expect("it is right").model, named("Client", r#"["abc","5"]"#));
    }

    #[test]
    fn what_is_wrong_is_told_by_field() {
        let fields = |body: Value| match said(&body) {
            Err(ClassError::Fields(fields)) => {
                fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            }
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(fields(json!({})), ["type"]);
        assert_eq!(fields(json!({"type": 5})), ["type"]);
        assert_eq!(fields(json!({"type": "Application"})), ["id", "service_id"]);
        assert_eq!(
            fields(json!({"type": "Application", "id": 1, "service_id": null})),
            ["service_id"]
        );
        assert_eq!(fields(json!({"type": "Service", "id": "x"})), ["id"]);
        let optional = json!({"type": "Application", "id": 1, "service_id": 2, "account_id": "x"});
        assert_eq!(fields(optional), ["account_id"]);
        let error = said(&json!({"type": "Nothing", "id": 1})).expect_err("there is none");
        assert!(error.to_string().contains("Application, Client, Metric"), "{error}");
        let error = said(&json!({"type": "Proxy", "id": -1})).expect_err("it is wrong");
        assert_eq!(
            error.to_string(),
            "id has to be a whole number, from 0 to 9223372036854775807, service_id is missing"
        );
    }
}
