//! Errors as answers. The only place where an error class becomes a status.

use budu_spec::docker::ErrorAnswer;
use budu_spec::{Classified, ErrorClass};
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

use super::{Body, typed};

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

/// The HTTP status of an error class.
fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorClass::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorClass::Forbidden => StatusCode::FORBIDDEN,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::NotModified => StatusCode::NOT_MODIFIED,
        ErrorClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorClass::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Canceled | ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Failure {
    fn new(class: ErrorClass, message: impl Into<String>) -> Failure {
        Failure { status: status(class), message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(ErrorClass::InvalidArgument, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(ErrorClass::Internal, message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Failure {
        Failure::new(ErrorClass::TooLarge, message)
    }

    pub(crate) fn not_implemented(what: &str) -> Failure {
        Failure::new(ErrorClass::NotImplemented, format!("{what} is not implemented"))
    }

    /// Unknown paths and methods look the same.
    pub(crate) fn page_not_found() -> Failure {
        Failure::new(ErrorClass::NotFound, "page not found")
    }

    /// The answer for clients from before errors were JSON.
    pub(crate) fn plain_response(self) -> Response<Body> {
        let mut response = typed(self.status, "text/plain; charset=utf-8", Body::full(self.message + "\n"));
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// The answer itself.
    pub(crate) fn response(self) -> Response<Body> {
        if self.status == StatusCode::NOT_MODIFIED {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = self.status;
            return response;
        }
        let answer = ErrorAnswer { message: self.message };
        let mut bytes = serde_json::to_vec(&answer).unwrap_or_default();
        bytes.push(b'\n');
        typed(self.status, "application/json", Body::full(bytes))
    }
}

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(error.class(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let error = budu_engine::Error::NoSuchContainer { name: "web".into() };
        let failure = Failure::from(error);
        assert_eq!((failure.status.as_u16(), failure.message.as_str()), (404, "No such container: web"));
        let failure = Failure::from(budu_engine::Error::NotModified { id: "x".into() });
        assert_eq!(failure.response().status(), 304);
        assert_eq!(Failure::not_implemented("x").status, 501);
    }
}
