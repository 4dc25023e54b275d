//! The API's description, made from the code; `schemas/openapi.json` is a copy that a test compares.

use axum::http::StatusCode;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{PathItem, RefOr};
use utoipa::{Modify, OpenApi};

use super::{litellm, moderations, proxy, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "throughline",
        description = "A sidecar that reads the arc of a person's chats, not the message. What it says is a signal for human review, not a \
                       diagnosis. Errors are application/problem+json."
    ),
    paths(
        routes::turn,
        routes::check,
        routes::score,
        routes::users::stands,
        routes::users::messages,
        routes::users::targets,
        routes::users::acknowledge,
        routes::users::hold,
        routes::users::erase,
        routes::alarms::list,
        routes::alarms::stream,
        moderations::moderations,
        proxy::completions,
        litellm::guardrail,
        routes::healthy,
        routes::ready,
        routes::metrics,
        routes::description
    ),
    modifiers(&Bearer, &Statuses),
    security(("bearer" = []))
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = openapi.components.as_mut() {
            components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
        }
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = path;
    [get, put, post, delete].into_iter().flatten()
}

/// Gives every answer the description that OpenAPI asks for (3.1.1, section 4.8.17): what HTTP calls its status.
struct Statuses;

impl Modify for Statuses {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        for operation in openapi.paths.paths.values_mut().flat_map(operations) {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let known = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
                    known.unwrap_or("An answer").clone_into(&mut response.description);
                }
            }
        }
    }
}

/// OpenAPI 3.1, as JSON.
pub fn openapi() -> String {
    // A description of our own always has a JSON form.
    Description::openapi().to_pretty_json().unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn every_answer_is_described() {
        let description: Value = serde_json::from_str(&super::openapi()).unwrap();
        let operations = description["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
        let answers: Vec<_> =
            operations.flat_map(|(_, operation)| operation["responses"].as_object().into_iter().flatten()).collect();
        assert!(answers.len() > 100, "{}", answers.len());
        for (status, answer) in answers {
            let told = answer["description"].as_str().unwrap_or_default();
            assert!(told.len() > 1 && told != "An answer", "{status}: {answer}");
        }
    }
}
