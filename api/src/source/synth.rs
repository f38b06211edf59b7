//! EndpointSlices made from Pods.
