//! Every metric, as it is documented.

/// A metric as it is documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// The name, as the scraped text has it.
    pub name: &'static str,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says; one line.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident = $kind:literal $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Described = Described { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*

        /// Every metric, in the order of the documentation.
        pub const CATALOGUE: &[Described] = &[$($id),*];
    };
}

catalogue! {
    REVIEWS = "counter" "bonafide_reviews_total" ["verdict", "reason"] "Reviews answered, by verdict and the first reason";
    DRY_RUNS = "counter" "bonafide_dry_run_reviews_total" ["verdict", "reason"] "Reviews of dry runs answered, which no other metric of reviews counts";
    LAST_REVIEW = "gauge" "bonafide_last_review_timestamp_seconds" [] "When this replica last answered a review, in Unix time; 0 where it has not";
    PROBLEMS = "counter" "bonafide_problems_total" ["reason", "effect"] "Things found against images, by reason and what they did";
    PHASES = "histogram" "bonafide_review_phase_seconds" ["phase"] "Time a review took, by phase";
    IN_FLIGHT = "gauge" "bonafide_reviews_in_flight" [] "Reviews that are being answered now";
    UNKNOWN_CALLERS = "counter" "bonafide_unknown_callers_total" ["what"] "Reviews of callers that are not known, by what is wrong with them";
    REFUSED = "counter" "bonafide_requests_refused_total" ["code"] "Requests that are no review, by HTTP status code";
    UNKNOWN_KINDS = "counter" "bonafide_unknown_kinds_total" ["group", "kind"] "Reviews of kinds that no image can be read from, admitted";
    PANICS = "counter" "bonafide_panics_total" [] "Reviews that ended in a panic, and were denied";
    REGISTRY_REQUESTS = "counter" "bonafide_registry_requests_total" ["registry", "outcome"] "Requests to registries, by outcome";
    REGISTRY_SECONDS = "histogram" "bonafide_registry_request_seconds" ["registry"] "Time requests to registries took";
    CACHE_LOOKUPS = "counter" "bonafide_cache_lookups_total" ["cache", "result"] "Look-ups in caches, by result";
    CACHE_BYTES = "gauge" "bonafide_cache_bytes" ["cache"] "Bytes held by caches";
    POOL_BYTES = "gauge" "bonafide_pool_bytes" ["pool"] "Bytes that reviews hold, by pool";
    CONNECTIONS = "gauge" "bonafide_connections" ["listener"] "Connections and their requests, by listener";
    TURNED_AWAY = "counter" "bonafide_connections_turned_away_total" ["listener"] "Connections refused, or closed for their number of requests";
    POLICIES = "gauge" "bonafide_policies" ["state"] "Policies in force, valid and invalid";
    POLICY_RELOADS = "counter" "bonafide_policy_reloads_total" ["result"] "Times the policies were read again because they had changed";
    WATCH_STALENESS = "gauge" "bonafide_watch_staleness_seconds" ["resource"] "For how long a resource of the cluster could not be followed";
    TRUST_ROOT_AGE = "gauge" "bonafide_trust_root_age_seconds" ["trust_root"] "Time since the trust root was fetched, else since the newest of its keys and authorities came into use";
    CERTIFICATE_EXPIRY = "gauge" "bonafide_certificate_not_after_seconds" [] "When the serving certificate ends to be valid, in Unix time";
    CERTIFICATE_RELOADS = "counter" "bonafide_certificate_reloads_total" ["result"] "Times the serving certificate was read again because it had changed";
    WEBHOOK_ENTRIES = "gauge" "bonafide_webhook_entries" ["entry", "state"] "Whether an entry of the webhook configurations is absent, or there with failurePolicy Ignore or Fail";
    WEBHOOK_UNREACHED = "gauge" "bonafide_webhook_unreached_seconds" [] "For how long the leader has not seen the API server reach the webhook";
    LEADER = "gauge" "bonafide_leader" [] "Whether this replica leads";
    EVENTS_DROPPED = "counter" "bonafide_events_dropped_total" [] "Events on policies that were dropped because there were too many";
    LOG_DROPPED = "counter" "bonafide_log_lines_dropped_total" [] "Log lines dropped because they came faster than they could be written";
    BUILD = "info" "bonafide_build_info" ["version"] "The version that runs";
}
