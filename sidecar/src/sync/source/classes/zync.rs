//! The classes that 3scale's API has, as Zync knows them.

use std::sync::LazyLock;

use super::class::{Class, Classes, Field, Kind, LeadsTo, Parent, Request};
use super::template::Template;

static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
    const ID: &[&str] = &["id"];
    const SERVICE: Option<(&str, &str)> = Some(("Service", "service_id"));
    Classes::of([
        class("Service", ID, None),
        class("Provider", ID, None).at("/admin/api/provider.json", &[], "account"),
        class("Application", ID, SERVICE)
            .also("account_id", false)
            .at("/admin/api/applications/find.json", &[("application_id", "{id}")], "application")
            .leading_to(LeadsTo::Client),
        // Two services may each have a client of the same name.
        class("Client", &["client_id", "service_id"], SERVICE).at(
            "/admin/api/applications/find.json",
            &[("app_id", "{client_id}"), ("service_id", "{service_id}")],
            "application",
        ),
        class("Proxy", ID, SERVICE)
            .at("/admin/api/services/{service_id}/proxy.json", &[], "proxy")
            .leading_to(LeadsTo::Integration),
        class("Metric", ID, SERVICE).at(
            "/admin/api/services/{service_id}/metrics/{id}.json",
            &[],
            "metric",
        ),
        class("UsageLimit", ID, Some(("Metric", "metric_id"))).also("plan_id", true),
    ])
});

/// All of them.
pub(super) fn classes() -> &'static Classes {
    &CLASSES
}

/// One whose fields are numbers, but for the client_id, and which no API is asked for.
fn class(name: &str, key: &[&str], parent: Option<(&str, &str)>) -> Class {
    let mut class = Class {
        name: name.to_owned(),
        fields: Vec::new(),
        key: key.iter().map(|&field| field.to_owned()).collect(),
        parent: parent
            .map(|(class, field)| Parent { class: class.to_owned(), key: vec![field.to_owned()] }),
        request: None,
        leads_to: LeadsTo::Nothing,
    };
    for &field in key {
        class = class.also(field, true);
    }
    match parent {
        Some((_, field)) if !key.contains(&field) => class.also(field, true),
        _ => class,
    }
}

impl Class {
    fn also(mut self, field: &str, is_required: bool) -> Self {
        let kind = if field == "client_id" { Kind::Text } else { Kind::Number };
        self.fields.push(Field { name: field.to_owned(), kind, is_required });
        self
    }

    fn at(mut self, path: &str, query: &[(&str, &str)], member: &str) -> Self {
        const RIGHT: &str = "the constants are templates";
        let query = query.iter();
        self.request = Some(Request {
            path: Template::parse_path(path).expect(RIGHT),
            query: query
                .map(|(name, value)| ((*name).to_owned(), Template::parse(value).expect(RIGHT)))
                .collect(),
            member: Some(member.to_owned()),
        });
        self
    }

    fn leading_to(mut self, leads_to: LeadsTo) -> Self {
        self.leads_to = leads_to;
        self
    }
}
