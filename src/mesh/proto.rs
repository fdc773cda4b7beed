//! The generated messages and services of `proto/`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing,
    clippy::unwrap_used
)]

/// `rootbridge.v1`.
pub mod rootbridge_v1 {
    tonic::include_proto!("rootbridge.v1");
}

/// `istio.v1.auth`.
pub mod istio {
    tonic::include_proto!("istio.v1.auth");
}

/// `io.linkerd.proxy.identity`.
pub mod linkerd {
    tonic::include_proto!("io.linkerd.proxy.identity");
}

/// The part of `envoy` that SDS needs.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            /// `envoy.config.core.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    /// `envoy.extensions`.
    pub mod extensions {
        /// `envoy.extensions.transport_sockets`.
        pub mod transport_sockets {
            /// `envoy.extensions.transport_sockets.tls`.
            pub mod tls {
                /// `envoy.extensions.transport_sockets.tls.v3`.
                pub mod v3 {
                    tonic::include_proto!("envoy.extensions.transport_sockets.tls.v3");
                }
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.discovery`.
        pub mod discovery {
            /// `envoy.service.discovery.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
        /// `envoy.service.secret`.
        pub mod secret {
            /// `envoy.service.secret.v3`.
            pub mod v3 {
                tonic::include_proto!("envoy.service.secret.v3");
            }
        }
    }
}

/// `google`.
pub mod google {
    /// `google.rpc`.
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// The descriptors of all, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
