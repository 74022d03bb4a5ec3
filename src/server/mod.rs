//! The webhook: admission, health and metrics over HTTP.
