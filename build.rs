//! Compiles `proto/` in pure Rust, so that a build needs no `protoc`.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "proto/rootbridge/v1/certificates.proto",
            "proto/istio/ca.proto",
            "proto/linkerd/identity.proto",
            "proto/envoy/service/secret/v3/sds.proto",
            // Inside of google.protobuf.Any, which names no file.
            "proto/envoy/extensions/transport_sockets/tls/v3/secret.proto",
        ],
        ["proto"],
    )?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&descriptors, files.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
