//! What the OpenAPI document says of every operation alike, so that no handler has to repeat it.

use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::body::Errors;

/// Adds the errors that any operation may answer with, and the shape of all errors.
pub(super) fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    // Zync's own way of writing it is taken too.
    components.add_security_scheme(
        "zync",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(
                    "The setting sync.token; also as Authorization: Token token=\"…\".",
                ))
                .build(),
        ),
    );
    components.schemas.insert(Errors::name().into_owned(), Errors::schema());
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            complete_operation(operation);
        }
    }
}

fn complete_operation(operation: &mut Operation) {
    let needs_token = operation.security.is_some();
    let has_body = operation.request_body.is_some();
    let further = [
        (true, "500"),
        (true, "503"),
        (needs_token, "401"),
        (has_body, "400"),
        (has_body, "413"),
        (has_body, "415"),
        (has_body, "422"),
    ];
    let responses = &mut operation.responses.responses;
    for (_, status) in further.into_iter().filter(|(applies, _)| *applies) {
        responses.entry(status.to_owned()).or_insert_with(|| ResponseBuilder::new().into());
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = describe(status).to_owned();
        }
        let is_error = status.starts_with('4') || status.starts_with('5');
        if is_error && response.content.is_empty() {
            let schema = Ref::from_schema_name(Errors::name());
            response.content.insert("application/json".to_owned(), Content::new(Some(schema)));
        }
    }
}

/// What a status means in this API.
fn describe(status: &str) -> &'static str {
    match status {
        "200" => "Done.",
        "201" => "Created.",
        "204" => "Done; there is nothing to tell.",
        "400" => "The request can't be read.",
        "401" => "There is no token, or one that is not valid.",
        "403" => "The credentials are wrong, or none are set.",
        "404" => "There is no such thing.",
        "409" => "Something else is in the way.",
        "413" => "The body is larger than the setting max_body_bytes.",
        "415" => "The body is not said to be JSON.",
        "422" => "The request is understood and not valid.",
        "429" => "Too many failed logins; Retry-After says when to try again.",
        "500" => "A fault of the server.",
        _ => "The database can't be had now; Retry-After says when to try again.",
    }
}
