//! The metrics of what reviews depend on: policies, trust roots and the certificate.

use std::time::Duration;

use super::{Done, Metrics, Reload, Root, State};

impl Metrics {
    /// How many policies are in force.
    pub fn set_policies(&self, valid: usize, invalid: usize) {
        for (state, count) in [("valid", valid), ("invalid", invalid)] {
            self.policies.get_or_create(&State { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The policies were read again because they had changed.
    pub fn policies_reloaded(&self, result: Reload) {
        self.policy_reloads.get_or_create(&Done { result: result.word() }).inc();
    }

    /// How old each trust root is; these are all.
    pub fn set_trust_root_ages(&self, ages: impl Iterator<Item = (String, Duration)>) {
        self.trust_root_age.clear();
        for (trust_root, age) in ages {
            self.trust_root_age.get_or_create(&Root { trust_root }).set(age.as_secs_f64());
        }
    }

    /// When the serving certificate ends to be valid.
    pub fn set_certificate_expiry(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    /// The serving certificate was read again because it had changed.
    pub fn certificate_reloaded(&self, result: Reload) {
        self.certificate_reloads.get_or_create(&Done { result: result.word() }).inc();
    }
}
