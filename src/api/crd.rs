//! The custom resource definitions, made from the wire types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::v1alpha1::{ClusterProvenancePolicy, ProvenancePolicy, TrustRoot};

/// What keeps Argo CD and Flux from deleting a definition that is in their source no more. Everybody's policies would go with it.
const KEPT: [(&str, &str); 2] =
    [("argocd.argoproj.io/sync-options", "Prune=false"), ("kustomize.toolkit.fluxcd.io/prune", "disabled")];

/// The definitions of every kind of the group, in the order of their names.
pub fn definitions() -> [CustomResourceDefinition; 3] {
    [ClusterProvenancePolicy::crd(), ProvenancePolicy::crd(), TrustRoot::crd()].map(|mut definition| {
        let annotations = definition.metadata.annotations.get_or_insert_default();
        annotations.extend(KEPT.map(|(key, value)| (key.to_owned(), value.to_owned())));
        for version in &mut definition.spec.versions {
            if let Some(schema) =
                version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut())
            {
                // The name of a type of this program.
                schema.title = None;
                refuse_null(schema);
            }
        }
        definition
    })
}

/// A field without a value is one that is not there: the API server then drops it, or gives it its default. Stored as it is, it would
/// be an error for whoever compiles the policy.
fn refuse_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        refuse_null(property);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(inner)) = &mut schema.additional_properties {
        refuse_null(inner);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(inner)) => refuse_null(inner),
        Some(JSONSchemaPropsOrArray::Schemas(all)) => all.iter_mut().for_each(refuse_null),
        None => {}
    }
}
