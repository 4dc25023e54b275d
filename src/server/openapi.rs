//! The API's description, made from the code; `schemas/openapi.json` is a copy that a test compares.

use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
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
    modifiers(&Bearer),
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

/// OpenAPI 3.1, as JSON.
pub fn openapi() -> String {
    // A description of our own always has a JSON form.
    Description::openapi().to_pretty_json().unwrap_or_default() + "\n"
}
