//! What else follows from the data of 3scale's classes: which client an application has, and where the models of a service
//! go.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::members;
use crate::secret::Secret;
use crate::sync::source::Derived;
use crate::sync::source::classes::{self, Class, LeadsTo};
use crate::sync::work::{Fetch, Named, Notified};

/// What follows from this data, or from a model being gone.
pub(super) fn of(
    class: &Class,
    fetch: &Fetch,
    data: Option<&RawValue>,
) -> (Vec<Notified>, Option<Derived>) {
    match (class.leads_to, &fetch.parent) {
        (LeadsTo::Client, Some(service)) => (clients(fetch, service, data), None),
        (LeadsTo::Integration, Some(service)) => {
            (Vec::new(), Some(integration(fetch, service, data)))
        }
        _ => (Vec::new(), None),
    }
}

/// The application's client; and the one that it had before, if that was another.
fn clients(fetch: &Fetch, service: &Named, data: Option<&RawValue>) -> Vec<Notified> {
    let known = [data, fetch.last_data.as_deref()];
    let mut clients: Vec<Notified> = Vec::new();
    for client_id in known.into_iter().flatten().filter_map(|data| member(data, "client_id")) {
        let body = json!({"type": "Client", "client_id": client_id, "service_id": service.key});
        let body = body.as_object().expect("it is written as one");
        // What can't be a client's name names none.
        if let Ok(client) = classes::read(fetch.tenant, body)
            && !clients.contains(&client)
        {
            clients.push(client);
        }
    }
    clients
}

fn integration(fetch: &Fetch, service: &Named, data: Option<&RawValue>) -> Derived {
    let model = service.clone();
    let said = |name| member(data?, name).filter(|value| !value.is_null());
    let endpoint = said("oidc_issuer_endpoint");
    let endpoint = endpoint.as_ref().and_then(Value::as_str).map_or("", str::trim).to_owned();
    if endpoint.is_empty() {
        return Derived::Nowhere { model };
    }
    let kind = said("oidc_issuer_type");
    let kind = match kind.as_ref().map(|kind| kind.as_str().map(str::trim)) {
        None | Some(Some("" | "keycloak")) => "keycloak",
        Some(Some("rest")) => "rest",
        Some(_) => {
            tracing::warn!(
                tenant = %fetch.tenant,
                service = service.key,
                "the service's oidc_issuer_type is neither keycloak nor rest: its clients go nowhere"
            );
            return Derived::Nowhere { model };
        }
    };
    Derived::Push { kind: kind.to_owned(), endpoint: Secret::new(endpoint), model }
}

/// A member of an object, if it is there.
fn member(data: &RawValue, name: &str) -> Option<Value> {
    let members = members(data)?;
    serde_json::from_str(members.get(name)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::sync::ids::{ModelId, TenantId};
    use crate::sync::source::classes::Classes;
    use crate::sync::work::Data;

    fn raw(value: &Value) -> Data {
        to_raw_value(value).expect("a value is JSON").into()
    }

    fn follows(
        class: &str,
        data: Option<Value>,
        last_data: Option<Value>,
    ) -> (Vec<String>, Option<Derived>) {
        let named = |class: &str, key: &str| Named { class: class.into(), key: key.into() };
        let fetch = Fetch {
            id: ModelId(1),
            tenant: TenantId(16),
            model: named(class, "3"),
            parent: Some(named("Service", "5")),
            data: Map::new(),
            last_data: last_data.as_ref().map(raw),
            attempts: 1,
        };
        let classes = Classes::with([]);
        let class = classes.get(class).expect("there is one");
        let (notified, integration) = of(class, &fetch, data.as_ref().map(raw).as_deref());
        for one in &notified {
            assert_eq!((one.tenant, one.model.class.as_str()), (TenantId(16), "Client"));
            assert_eq!((&one.parent, &one.data), (&fetch.parent, &None));
        }
        (notified.into_iter().map(|one| one.model.key).collect(), integration)
    }

    #[test]
    fn an_application_has_its_client_fetched() {
        let clients = |data, last| follows("Application", data, last).0;
        let of = |id| Some(json!({"id": 3, "client_id": id}));
        assert_eq!(clients(of("a"), None), [r#"["a","5"]"#]);
        assert_eq!(clients(of("a"), of("a")), [r#"["a","5"]"#]);
        assert_eq!(clients(of("b"), of("a")), [r#"["b","5"]"#, r#"["a","5"]"#]);
        assert_eq!(clients(None, of("a")), [r#"["a","5"]"#]);
        assert_eq!(clients(Some(json!({})), of("a")), [r#"["a","5"]"#]);
        assert!(clients(None, None).is_empty());
        for unusable in [
            json!({}),
            json!({"client_id": ""}),
            json!({"client_id": null}),
            json!({"client_id": "a\0"}),
        ] {
            assert!(clients(Some(unusable.clone()), None).is_empty(), "{unusable}");
        }
        assert!(follows("Service", of("a"), None).0.is_empty());
    }

    #[test]
    fn a_proxy_says_where_the_models_of_its_service_go() {
        let model = Named { class: "Service".to_owned(), key: "5".to_owned() };
        let goes = |data| follows("Proxy", data, None).1.expect("a proxy always says");
        let to = |kind: &str| {
            let endpoint = Secret::new("https://id:secret@sso.example/realm".to_owned());
            Derived::Push { kind: kind.to_owned(), endpoint, model: model.clone() }
        };
        let endpoint = "https://id:secret@sso.example/realm";
        let of = |kind: Value| {
            goes(Some(json!({"oidc_issuer_endpoint": endpoint, "oidc_issuer_type": kind})))
        };
        assert_eq!(goes(Some(json!({"oidc_issuer_endpoint": endpoint}))), to("keycloak"));
        assert_eq!((of(json!(null)), of(json!(""))), (to("keycloak"), to("keycloak")));
        assert_eq!((of(json!("keycloak")), of(json!("rest"))), (to("keycloak"), to("rest")));
        let nowhere = Derived::Nowhere { model: model.clone() };
        assert_eq!((of(json!("other")), of(json!(5))), (nowhere.clone(), nowhere.clone()));
        for endpoint in [json!(null), json!(""), json!(" "), json!(5)] {
            assert_eq!(goes(Some(json!({"oidc_issuer_endpoint": endpoint}))), nowhere);
        }
        assert_eq!((goes(Some(json!({}))), goes(None)), (nowhere.clone(), nowhere));
    }
}
