//! A request that no judge sees: what is wrong with it, and how it is told. Where the `uid` is known it is told by a denial, for an HTTP
//! error admits with `failurePolicy: Ignore`.

use axum::http::StatusCode;

use super::{answer::Refusal, body::BodyError, callers::UnknownCaller};

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What metrics call it.
    pub word: &'static str,
    /// The HTTP status of a request whose `uid` is not known.
    pub status: StatusCode,
    /// What is wrong, for whoever sent it.
    pub why: String,
}

impl Refused {
    /// It is no review, or not one for this path.
    pub const fn unreadable(why: String) -> Self {
        Self { word: "Unreadable", status: StatusCode::BAD_REQUEST, why }
    }

    /// Its content type is not JSON's.
    pub fn content_type() -> Self {
        let why = "the content type of a review is application/json".to_owned();
        Self { word: "ContentType", status: StatusCode::UNSUPPORTED_MEDIA_TYPE, why }
    }

    /// Nothing is answered at its path.
    pub fn path(path: &str) -> Self {
        let path: String = path.chars().take(100).collect();
        Self { word: "Path", status: StatusCode::NOT_FOUND, why: format!("there is no webhook at {path}") }
    }

    /// Its method is not POST.
    pub fn method() -> Self {
        let why = "a review is sent with POST".to_owned();
        Self { word: "Method", status: StatusCode::METHOD_NOT_ALLOWED, why }
    }

    /// It is not known who sent it.
    pub fn unknown_caller(unknown: &UnknownCaller) -> Self {
        Self { word: "UnknownCaller", status: StatusCode::UNAUTHORIZED, why: unknown.message() }
    }

    /// A fault of ours.
    pub fn fault() -> Self {
        let why =
            "this could not be reviewed because of a fault in bonafide; it is in bonafide's log".to_owned();
        Self { word: "Panic", status: StatusCode::INTERNAL_SERVER_ERROR, why }
    }

    /// Whether the same review may be admitted when it is sent again.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// The denial of a review whose `uid` is known.
    pub fn denial(&self) -> Refusal {
        let (code, reason) = match self.status {
            StatusCode::PAYLOAD_TOO_LARGE => (413, "RequestEntityTooLarge"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => (415, "UnsupportedMediaType"),
            StatusCode::UNAUTHORIZED => (401, "Unauthorized"),
            StatusCode::NOT_FOUND => (404, "NotFound"),
            StatusCode::METHOD_NOT_ALLOWED => (405, "MethodNotAllowed"),
            StatusCode::BAD_REQUEST => (400, "BadRequest"),
            StatusCode::INTERNAL_SERVER_ERROR => (500, "InternalError"),
            // The API server's clients know no status for a review that came too slowly.
            _ => (503, "ServiceUnavailable"),
        };
        Refusal { code, reason, message: self.why.clone(), invalid: None }
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        let (word, status) = match error {
            BodyError::TooLarge => ("TooLarge", StatusCode::PAYLOAD_TOO_LARGE),
            BodyError::TooSlow => ("TooSlow", StatusCode::REQUEST_TIMEOUT),
            BodyError::Busy => ("Busy", StatusCode::SERVICE_UNAVAILABLE),
            BodyError::Broken => ("Broken", StatusCode::BAD_REQUEST),
        };
        Self { word, status, why: error.to_string() }
    }
}
