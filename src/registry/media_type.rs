//! What a body says of itself. All of it is a hint.

use serde::{Deserialize, de::IgnoredAny};

pub(super) fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

pub(super) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }
    serde_json::from_slice::<Typed>(bytes).ok().map(|typed| typed.media_type).filter(|kind| !kind.is_empty())
}
