//! A plain HTTP client for the tests of the kit's registry.
#![allow(dead_code)]

use bonafide_kit::registry::Registry;
use reqwest::{Client, Response};
use serde_json::Value;

pub fn client() -> Client {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

pub async fn get(registry: &Registry, path: &str) -> Response {
    client().get(format!("{}{path}", registry.url())).send().await.unwrap()
}

pub fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
}

pub async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

pub fn digests(index: &Value) -> Vec<String> {
    index["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_owned()).collect()
}

/// The URL in a `Link` header, empty where there is none.
pub fn next_page(response: &Response) -> String {
    header(response, "link").trim_start_matches('<').split('>').next().unwrap().to_owned()
}
