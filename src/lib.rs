//! Bonafide: a Kubernetes admission webhook that admits a workload only when every image it may run
//! carries signed SLSA provenance for every node architecture the pod can land on.
