//! Whether an attestation is genuine: Sigstore verification under a trust root.
