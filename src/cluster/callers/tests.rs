//! The keys are read from an API server in memory. Time is paused.

use bonafide_kit::apiserver::{ApiServer, Outage};
use serde_json::json;
use token::tests::{Issuer as Signer, claims_for, header};
use tokio::time::sleep;

use super::*;

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/bonafide";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/bonafide";

struct Setup {
    server: ApiServer,
    signer: Signer,
    tokens: Arc<ApiServerTokens>,
}

fn setup() -> Setup {
    let (server, signer) = (ApiServer::new(), Signer::new());
    server.put(DISCOVERY, json!({"issuer": "https://issuer", "jwks_uri": "https://elsewhere.invalid/keys"}));
    server.put(KEYS, signer.key_set());
    for (path, kind) in
        [(VALIDATING, "ValidatingWebhookConfiguration"), (MUTATING, "MutatingWebhookConfiguration")]
    {
        let version = "admissionregistration.k8s.io/v1";
        server.put(path, json!({"apiVersion": version, "kind": kind, "metadata": {"name": "bonafide"}}));
    }
    let identity = WebhookIdentity {
        name: "bonafide".to_owned(),
        namespace: "ns".to_owned(),
        port: 443,
        subjects: Vec::new(),
    };
    let tokens = ApiServerTokens::new(Client::new(server.router(), "ns"), identity);
    Setup { server, signer, tokens }
}

impl Setup {
    fn uid(&self, path: &str) -> String {
        self.server.get(path).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn token(&self, key: &str, path: &str) -> String {
        let (kind, uid) = match path {
            "/mutate" => ("mutatingwebhookconfiguration", self.uid(MUTATING)),
            _ => ("validatingwebhookconfiguration", self.uid(VALIDATING)),
        };
        let audience = format!("https://bonafide.ns.svc:443{path}");
        self.signer.sign(&header(key), &claims_for(&audience, kind, &uid, token::now()))
    }

    async fn verify(&self, token: &str, path: &str) -> Result<(), String> {
        self.tokens.verify(token, path, Instant::now() + Duration::from_secs(9)).await
    }

    /// How often the keys were asked for.
    fn readings(&self) -> usize {
        self.server.seen().iter().filter(|seen| seen.path == KEYS).count()
    }
}

#[tokio::test(start_paused = true)]
async fn d_a_token_counts_for_its_own_entry_and_the_keys_are_read_once() {
    let setup = setup();
    for path in ["/validate", "/bind", "/validate-policy", "/mutate", PROBE_PATH] {
        let token = setup.token("rsa", path);
        assert_eq!(setup.verify(&token, path).await, Ok(()), "{path}");
        assert_eq!(setup.verify(&token, path).await, Ok(()), "{path}, again");
        for other in ["/validate", "/bind", "/validate-policy", "/mutate", PROBE_PATH, "/", ""] {
            assert_eq!(setup.verify(&token, other).await.is_ok(), other == path, "{path} {other}");
        }
    }
    // The probe goes through an entry of either configuration.
    let audience = format!("https://bonafide.ns.svc:443{PROBE_PATH}");
    let claims = claims_for(&audience, "mutatingwebhookconfiguration", &setup.uid(MUTATING), token::now());
    assert_eq!(setup.verify(&setup.signer.sign(&header("p256"), &claims), PROBE_PATH).await, Ok(()));
    assert_eq!(setup.readings(), 1);
}

#[tokio::test(start_paused = true)]
async fn d_a_new_key_is_learnt_and_unknown_ones_are_not_asked_for_all_the_time() {
    let setup = setup();
    let old = setup.token("rsa", "/validate");
    assert_eq!(setup.verify(&old, "/validate").await, Ok(()));
    // Somebody makes names up.
    for n in 0..50 {
        let made_up = setup.signer.sign(&json!({"alg": "RS256", "kid": format!("{n}")}), &json!({}));
        assert!(setup.verify(&made_up, "/validate").await.is_err());
    }
    assert_eq!(setup.readings(), 1, "the first reading was a moment ago");
    sleep(PAUSE).await;

    let next = Setup { signer: Signer::named("next"), ..setup };
    next.server.put(KEYS, next.signer.key_set());
    let new = next.token("next", "/validate");
    assert_eq!(next.verify(&new, "/validate").await, Ok(()));
    assert_eq!(next.readings(), 2);
    assert!(
        next.verify(&old, "/validate").await.is_err(),
        "the old key is gone, and what was verified with it"
    );
}

#[tokio::test(start_paused = true)]
async fn d_a_configuration_that_was_made_anew_is_learnt_and_tokens_of_the_old_one_end() {
    let setup = setup();
    let old = setup.token("rsa", "/validate");
    assert_eq!(setup.verify(&old, "/validate").await, Ok(()));
    let object = setup.server.get(VALIDATING).unwrap();
    setup.server.delete(VALIDATING);
    setup.server.put(VALIDATING, object);
    sleep(PAUSE).await;
    let new = setup.token("rsa", "/validate");
    assert_eq!(setup.verify(&new, "/validate").await, Ok(()));
    assert!(setup.verify(&old, "/validate").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn d_without_keys_nobody_is_known_and_with_them_an_outage_changes_nothing() {
    let setup = setup();
    let token = setup.token("rsa", "/validate");
    setup.server.outage(Some(Outage::Unavailable));
    let told = setup.verify(&token, "/validate").await.unwrap_err();
    assert!(told.starts_with("the keys of the API server's tokens could not be read"), "{told}");
    setup.server.outage(None);
    sleep(PAUSE).await;
    assert_eq!(setup.verify(&token, "/validate").await, Ok(()));
    setup.server.outage(Some(Outage::Unavailable));
    sleep(AGE * 2).await;
    assert_eq!(setup.verify(&token, "/validate").await, Ok(()));
    let (made_up, known) = (setup.signer.sign(&json!({"alg": "RS256", "kid": "x"}), &json!({})), &token);
    assert!(setup.verify(&made_up, "/validate").await.is_err());
    assert_eq!(setup.verify(known, "/validate").await, Ok(()));
}
