//! The OCI distribution client, and the layout folder that stands for a registry.
