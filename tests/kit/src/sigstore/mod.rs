//! A throwaway Sigstore.
