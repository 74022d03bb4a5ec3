//! Tasks that a webhook in a cluster is nothing without. One that ends before its time – by a panic, for they have no other way –
//! ends the process in good order, and Kubernetes starts it anew: better than serving on without learning of any change.

use std::future::Future;

use tokio::{sync::watch, task::JoinHandle};

/// Spawns vital tasks, and tells when one is lost.
#[derive(Debug, Clone)]
pub(super) struct Vital(watch::Sender<Option<&'static str>>);

/// Tells, however the task ends.
struct Told(Vital, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.0.send_replace(Some(self.1));
    }
}

impl Vital {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Runs a task; `name` is what the log says of it.
    pub(super) fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let told = Told(self.clone(), name);
        tokio::spawn(async move {
            let _told = told;
            task.await;
        })
    }

    /// Ends with the first task that does.
    pub(super) async fn lost(&self) -> &'static str {
        let mut lost = self.0.subscribe();
        match lost.wait_for(Option::is_some).await.ok().and_then(|name| *name) {
            Some(name) => name,
            // Nobody is there to be lost.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_told_and_one_that_goes_on_is_not() {
        let vital = Vital::new();
        let going = vital.spawn("going", std::future::pending());
        let waited = tokio::time::timeout(Duration::from_mins(1), vital.lost()).await;
        assert!(waited.is_err());
        let failing = vital.spawn("failing", async { panic!("as a fault of ours would") });
        assert_eq!(vital.lost().await, "failing");
        assert!(failing.await.unwrap_err().is_panic());
        assert!(!going.is_finished());
    }
}
